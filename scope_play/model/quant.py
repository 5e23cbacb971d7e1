"""Linears in 8 bits, for inference: half the memory and, on fp8 hardware, up to twice the matrix rate.

`fp8`: weights and activations as e4m3 with one scale per output channel and per token; Ada, Hopper, Blackwell.
`int8`: weights alone, one scale per output channel, products in the activations' type; any card, for room, not speed.
On a CPU both run as plain products of the rounded values: the reference that tests and error report use.

Only linears inside the blocks change, 95 % of SCOPE's weights. The mouse MLP's first layer stays as it is, because its
two halves are applied separately, and so do the tiny button embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scope_play.errors import ScopeError

PRECISIONS = ("bf16", "fp8", "int8")
KEPT = ("mouse_mlp.0", "keyboard_embed.")
FP8_CAPABILITY = (8, 9)
FP8_MAX = torch.finfo(torch.float8_e4m3fn).max


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (rows, columns) -> float8_e4m3fn of the same shape, and float32 scales (rows, 1) that undo it."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / FP8_MAX).clamp_min(torch.finfo(torch.float32).tiny)
    return (wide / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (rows, columns) -> int8 of the same shape, and float32 scales (rows, 1) that undo it."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (wide / scale).round().to(torch.int8), scale


class QuantLinear(nn.Module):
    """A linear whose weight is stored as 8-bit `data` (out, in) with a `scale` (out, 1) per row."""

    data: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, data: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = data.shape
        self.dtype = dtype
        self.register_buffer("data", data)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())

    @property
    def weight(self) -> Tensor:
        """The weight as it counts, in the model's type. Made anew at each call: for inspection, not for products."""
        return (self.data.float() * self.scale).to(self.dtype)


class Fp8Linear(QuantLinear):
    @classmethod
    def of(cls, linear: nn.Linear) -> Fp8Linear:
        return cls(*to_fp8(linear.weight.detach()), linear.bias, linear.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        rows, row_scale = to_fp8(x.reshape(-1, self.in_features))
        if x.is_cuda:
            out = self._scaled_product(rows, row_scale)
        else:
            product = rows.float() @ self.data.float().T * row_scale * self.scale.T
            out = (product if self.bias is None else product + self.bias.float()).to(x.dtype)
        return out.to(x.dtype).unflatten(0, x.shape[:-1])

    def _scaled_product(self, rows: Tensor, row_scale: Tensor) -> Tensor:
        # Row-wise scales inside the product are Hopper's and newer; on Ada they multiply the result instead.
        if torch.cuda.get_device_capability(rows.device) >= (9, 0):
            bias = None if self.bias is None else self.bias.to(torch.bfloat16)
            return torch._scaled_mm(
                rows, self.data.T, row_scale, self.scale.T, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
            )
        one = row_scale.new_ones(())
        product = torch._scaled_mm(rows, self.data.T, one, one, out_dtype=torch.float32, use_fast_accum=True)
        product = product * row_scale * self.scale.T
        return product if self.bias is None else product + self.bias


class Int8Linear(QuantLinear):
    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        return cls(*to_int8(linear.weight.detach()), linear.bias, linear.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        # int8 values are exact in every float type here, so the scale may wait until after the product.
        product = F.linear(x, self.data.to(x.dtype)) * self.scale.flatten().to(x.dtype)
        return product if self.bias is None else product + self.bias


def quantise_blocks(network: nn.Module, precision: str) -> int:
    """Replaces, in place, the linears in `network.blocks`; "bf16" leaves them. Returns the bytes saved.

    Raises ScopeError for an unknown precision, or fp8 on a GPU without it.
    """
    if precision not in PRECISIONS:
        raise ScopeError(f"precision {precision!r} is not known; use one of {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return 0
    device = next(network.parameters()).device
    if precision == "fp8" and device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < FP8_CAPABILITY:
            name = torch.cuda.get_device_name(device)
            raise ScopeError(f"precision fp8 needs compute capability 8.9, and {name} has {capability}; use int8")
    kind = Fp8Linear if precision == "fp8" else Int8Linear
    saved = 0
    for parent, child, linear in list(_linears(network.get_submodule("blocks"))):
        replacement = kind.of(linear)
        saved += linear.weight.nbytes - replacement.data.nbytes - replacement.scale.nbytes
        setattr(parent, child, replacement)
    return saved


def _linears(blocks: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for name, module in blocks.named_modules():
        # Matrix units take 8-bit operands in multiples of 16.
        if not isinstance(module, nn.Linear) or module.in_features % 16 or module.out_features % 16:
            continue
        inside = name.partition(".action_attn.")[2]
        if not any(inside.startswith(kept) for kept in KEPT):
            parent, _, child = name.rpartition(".")
            yield blocks.get_submodule(parent), child, module


@dataclass(frozen=True)
class BlockTrace:
    """What one block was given and what it answered."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


@dataclass(frozen=True)
class BlockError:
    """‖quantised - original‖ / ‖original‖ of a block's output: on its original input, and after all earlier blocks."""

    alone: float
    accumulated: float


def trace_blocks(network: nn.Module, run: Callable[[], object]) -> list[BlockTrace]:
    """Runs `run`, which calls `network` once, and keeps what went in and out of every block."""
    traces: list[BlockTrace] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        traces.append(BlockTrace(args, kwargs, output.clone()))

    hooks = [
        block.register_forward_hook(keep, with_kwargs=True) for block in network.get_submodule("blocks").children()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return traces


def block_errors(network: nn.Module, original: list[BlockTrace], run: Callable[[], object]) -> list[BlockError]:
    """Errors of a network after `quantise_blocks`, against the traces taken before it with the same `run`."""
    errors = []
    blocks = network.get_submodule("blocks").children()
    for block, before, after in zip(blocks, original, trace_blocks(network, run), strict=True):
        with torch.no_grad():
            alone = block(*before.args, **before.kwargs)
        errors.append(BlockError(_relative(alone, before.output), _relative(after.output, before.output)))
    return errors


def _relative(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())
