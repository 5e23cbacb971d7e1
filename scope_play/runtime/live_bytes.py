"""How much memory a piece of work takes at most, measured as tensors come and go, on any device, the meta device too:
there the same code runs without numbers, so that what a large network takes is known before it is loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _LiveBytes(TorchDispatchMode):
    """Tracks the storages alive that were made while it is on; those in `owned` do not count."""

    def __init__(self, owned: set[int]) -> None:
        super().__init__()
        self.owned = owned
        self.live: dict[int, int] = {}
        self.total = 0
        self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled, and to make sure torch would import its compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.note(tensor.untyped_storage())
        self.peak = max(self.peak, self.total)
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.live and key not in self.owned:
            self.live[key] = storage.nbytes()
            self.total += self.live[key]
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.total -= self.live.pop(key, 0)


class _Attention(torch.autograd.Function):
    """Keeps for the way back what fused kernels keep: queries, keys, values and result."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class _FusedAttention(TorchFunctionMode):
    """Attention without its scores, as the fused kernels of all devices compute it; the meta device's writes them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            return _Attention.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def peak_live_bytes(kept: Iterable[Tensor], function: Callable[[], object]) -> int:
    """Largest sum of storages alive at once that `function` made; those behind `kept`, such as weights, do not
    count."""
    tracker = _LiveBytes({tensor.untyped_storage()._cdata for tensor in kept})
    with _FusedAttention(), tracker:
        function()
    return tracker.peak
