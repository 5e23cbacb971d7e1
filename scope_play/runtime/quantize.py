"""Linears in 8 bits, for inference: half the memory and, on fp8 hardware, up to twice the matrix rate.

`fp8`: weights and activations as e4m3 with one scale per output channel and per token; Ada, Hopper, Blackwell.
`int8`: weights alone, one scale per output channel, products in the activations' type; any card, for room, not speed.
On a CPU both run as plain products of the rounded values: the reference that tests and error report use.

Only linears inside the blocks change, 95 % of SCOPE's weights. The mouse MLP's first layer stays as it is, because its
two halves are applied separately, and so do the tiny button embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.kernels import select_int8_linear
from scope_play.kernels.fp8 import round_rows

PRECISIONS = ("bf16", "fp8", "int8")
KEPT = ("mouse_mlp.0", "keyboard_embed.")
FP8_CAPABILITY = (8, 9)


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (rows, columns) -> int8 of the same shape, and float32 scales (rows, 1) that undo it."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (wide / scale).round().to(torch.int8), scale


class QuantLinear(nn.Module):
    """A linear whose weight is stored as 8-bit `data` (out, in) with a `scale` (out, 1) per row.

    `product` (x, data, scale, bias) -> x's shape with `out` last, is chosen for the device the weight was on.
    """

    data: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, rounded: tuple[Tensor, Tensor], product: Callable[..., Tensor]) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self.product = product
        data, scale = rounded
        self.register_buffer("data", data)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    @property
    def weight(self) -> Tensor:
        """The weight as it counts, in the model's type. Made anew at each call: for inspection, not for products."""
        return (self.data.float() * self.scale).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.data, self.scale, self.bias)


def fp8_linear(linear: nn.Linear) -> QuantLinear:
    weight = linear.weight.detach()
    if weight.device.type != "cuda":
        product = _fp8_reference
    elif torch.cuda.get_device_capability(weight.device) >= (9, 0):
        product = _fp8_scaled_inside
    else:
        product = _fp8_scaled_after
    return QuantLinear(linear, round_rows(weight), product)


def int8_linear(linear: nn.Linear) -> QuantLinear:
    weight = linear.weight.detach()
    return QuantLinear(linear, to_int8(weight), select_int8_linear(weight.device, weight.dtype))


def _fp8_reference(x: Tensor, data: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    rows, row_scale = round_rows(x)
    product = rows.float() @ data.float().T * row_scale * scale.flatten()
    return (product if bias is None else product + bias.float()).to(x.dtype)


def _fp8_scaled_inside(x: Tensor, data: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Both scales inside the matrix product: Hopper and newer. Such products only come out in bfloat16."""
    rows, row_scale = round_rows(x.flatten(0, -2))
    narrow = None if bias is None else bias.to(torch.bfloat16)
    out = torch._scaled_mm(rows, data.T, row_scale, scale.T, bias=narrow, out_dtype=torch.bfloat16, use_fast_accum=True)
    return out.to(x.dtype).unflatten(0, x.shape[:-1])


def _fp8_scaled_after(x: Tensor, data: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Both scales on the result: Ada, whose matrix products take one scale for a whole matrix."""
    rows, row_scale = round_rows(x.flatten(0, -2))
    one = row_scale.new_ones(())
    out = torch._scaled_mm(rows, data.T, one, one, out_dtype=torch.float32, use_fast_accum=True)
    out = out * row_scale * scale.T
    return (out if bias is None else out + bias).to(x.dtype).unflatten(0, x.shape[:-1])


def fp8_obstacle(device: torch.device) -> str | None:
    """Why fp8 products cannot run on `device`, as half a sentence; None on a GPU that has them, and on a CPU."""
    if device.type != "cuda":
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability >= FP8_CAPABILITY:
        return None
    return f"needs compute capability 8.9, and {torch.cuda.get_device_name(device)} has {capability}"


def eight_bit_saving(network: nn.Module) -> tuple[int, int]:
    """(weights that `quantise_blocks` would store in 8 bits, float32 scales beside them), both as counts."""
    linears = [linear for _, _, linear in _linears(network.get_submodule("blocks"))]
    return sum(linear.weight.numel() for linear in linears), sum(linear.out_features for linear in linears)


def quantise_blocks(network: nn.Module, precision: str) -> int:
    """Replaces, in place, the linears in `network.blocks`, on the device it will run on. Returns the bytes saved.

    precision: "fp8", "int8", or "bf16", which leaves everything as it is.

    Raises ScopeError for an unknown precision, or fp8 on a GPU without it.
    """
    if precision not in PRECISIONS:
        raise ScopeError(f"precision {precision!r} is not known; use one of {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return 0
    obstacle = fp8_obstacle(next(network.parameters()).device) if precision == "fp8" else None
    if obstacle is not None:
        raise ScopeError(f"precision fp8 {obstacle}; use int8")
    make = fp8_linear if precision == "fp8" else int8_linear
    saved = 0
    for parent, child, linear in list(_linears(network.get_submodule("blocks"))):
        replacement = make(linear)
        saved += linear.weight.nbytes - replacement.data.nbytes - replacement.scale.nbytes
        setattr(parent, child, replacement)
    return saved


def quantise_block(block: nn.Module, precision: str) -> None:
    """As `quantise_blocks`, for one block of a network."""
    quantise_blocks(_Only(block), precision)


class _Only(nn.Module):
    """A network of one block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block])


def _linears(blocks: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for name, module in blocks.named_modules():
        # Matrix units take 8-bit operands in multiples of 16.
        if not isinstance(module, nn.Linear) or module.in_features % 16 or module.out_features % 16:
            continue
        inside = name.partition(".action_attn.")[2]
        if not any(inside.startswith(kept) for kept in KEPT):
            parent, _, child = name.rpartition(".")
            yield blocks.get_submodule(parent), child, module
