"""How many bytes of tensors live at once while a function runs, weights that were there before not counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Tracker(TorchDispatchMode):
    def __init__(self, owned: set[int]) -> None:
        super().__init__()
        self.owned = owned
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        self.peak = max(self.peak, sum(self.live.values()))
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.live and key not in self.owned:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key, None)


def peak_live_bytes(module: nn.Module, function: Callable[[], object]) -> int:
    """Largest sum of storages alive at once that `function` made; those of `module`'s parameters do not count."""
    tracker = _Tracker({parameter.untyped_storage()._cdata for parameter in module.parameters()})
    with tracker:
        function()
    return tracker.peak
