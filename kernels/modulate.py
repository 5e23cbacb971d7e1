# mypy: allow-untyped-defs, allow-incomplete-defs
"""The element-wise steps between the big matrix products, each one read and one write of the hidden states.

`modulate` (LayerNorm, then scale and shift), `gate_add` (gated residual) and `action_fuse` (the action half of the
mouse MLP's first layer, added under its GELU). One program owns one token; what belongs to a latent frame is read
through L2, never expanded over tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import Launch, ceil_power_of_2, refuse_grad, row_warps, token_rows
from scope_play.kernels.shapes import frame_rows
from scope_play.kernels.triton_primitives import INTERPRET, round_to


@triton.jit
def modulate_kernel(
    x_ptr,
    shift_ptr,
    scale_ptr,
    out_ptr,
    tokens,
    rows,
    x_row,
    shift_batch,
    shift_frame,
    scale_batch,
    scale_frame,
    eps,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    within = tl.program_id(0)
    batch = tl.program_id(1)
    row = batch * rows + within
    frame = within // tokens
    column = tl.arange(0, BLOCK_C)
    mask = column < C
    x = tl.load(x_ptr + row * x_row + column, mask=mask, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + batch * shift_batch + frame * shift_frame + column, mask=mask, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + batch * scale_batch + frame * scale_frame + column, mask=mask, other=0.0).to(tl.float32)
    centred = tl.where(mask, x - tl.sum(x, axis=0) / C, 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=0) / C + eps)
    normed = round_to(centred * rstd, DTYPE, INTERPRET)
    out = round_to(shift + normed * round_to(1.0 + scale, DTYPE, INTERPRET), DTYPE, INTERPRET)
    tl.store(out_ptr + row * C + column, out.to(DTYPE), mask=mask)


@triton.jit
def gate_add_kernel(
    x_ptr,
    y_ptr,
    gate_ptr,
    out_ptr,
    tokens,
    rows,
    x_row,
    y_row,
    gate_batch,
    gate_frame,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    within = tl.program_id(0)
    batch = tl.program_id(1)
    row = batch * rows + within
    column = tl.arange(0, BLOCK_C)
    mask = column < C
    x = tl.load(x_ptr + row * x_row + column, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + row * y_row + column, mask=mask, other=0.0).to(tl.float32)
    gate_at = gate_ptr + batch * gate_batch + (within // tokens) * gate_frame
    gate = tl.load(gate_at + column, mask=mask, other=0.0).to(tl.float32)
    out = round_to(x + gate * y, DTYPE, INTERPRET)
    tl.store(out_ptr + row * C + column, out.to(DTYPE), mask=mask)


@triton.jit
def action_fuse_kernel(
    hidden_ptr,
    frame_ptr,
    out_ptr,
    tokens,
    rows,
    hidden_row,
    frame_batch,
    frame_frame,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    within = tl.program_id(0)
    batch = tl.program_id(1)
    row = batch * rows + within
    column = tl.arange(0, BLOCK_C)
    mask = column < C
    hidden = tl.load(hidden_ptr + row * hidden_row + column, mask=mask, other=0.0).to(tl.float32)
    frame_at = frame_ptr + batch * frame_batch + (within // tokens) * frame_frame
    x = round_to(hidden + tl.load(frame_at + column, mask=mask, other=0.0).to(tl.float32), DTYPE, INTERPRET)
    # x/2 (1 + tanh(u)) = x / (1 + exp(-2u)): no tanh, and right at both ends, where exp is 0 or infinite.
    u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    out = round_to(x / (1.0 + tl.exp(-2.0 * u)), DTYPE, INTERPRET)
    tl.store(out_ptr + row * C + column, out.to(DTYPE), mask=mask)


def plan(x_shape: Sequence[int]) -> Launch:
    """x_shape (B, n, S, C); the same for the three kernels."""
    batch, latents, tokens, width = x_shape
    block = ceil_power_of_2(width)
    return Launch((latents * tokens, batch), {"C": width, "BLOCK_C": block, "INTERPRET": INTERPRET}, row_warps(block))


def _per_frame(frame: Tensor, x: Tensor) -> tuple[Tensor, int, int]:
    rows = frame_rows(frame, x)
    if rows.stride(3) != 1:
        rows = rows.contiguous()
    return rows, rows.stride(0), rows.stride(1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, *, eps: float = 1e-6) -> Tensor:
    """See the twin in `modulate_torch`, which this equals. No gradients."""
    refuse_grad(x, shift, scale)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    x, x_row = token_rows(x)
    shift, *shift_strides = _per_frame(shift, x)
    scale, *scale_strides = _per_frame(scale, x)
    launch = plan(x.shape)
    tokens, rows = x.shape[2], x.shape[1] * x.shape[2]
    modulate_kernel[launch.grid](
        x,
        shift,
        scale,
        out,
        tokens,
        rows,
        x_row,
        *shift_strides,
        *scale_strides,
        eps,
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out


def gate_add(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """See the twin in `modulate_torch`, which this equals. No gradients."""
    refuse_grad(x, y, gate)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    (x, x_row), (y, y_row) = token_rows(x), token_rows(y)
    gate, *gate_strides = _per_frame(gate, x)
    launch = plan(x.shape)
    tokens, rows = x.shape[2], x.shape[1] * x.shape[2]
    gate_add_kernel[launch.grid](
        x, y, gate, out, tokens, rows, x_row, y_row, *gate_strides, **launch.constants, num_warps=launch.num_warps
    )
    return out


def action_fuse(hidden: Tensor, frame: Tensor) -> Tensor:
    """See the twin in `modulate_torch`, which this equals. No gradients."""
    refuse_grad(hidden, frame)
    out = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    hidden, hidden_row = token_rows(hidden)
    frame, *frame_strides = _per_frame(frame, hidden)
    launch = plan(hidden.shape)
    tokens, rows = hidden.shape[2], hidden.shape[1] * hidden.shape[2]
    action_fuse_kernel[launch.grid](
        hidden,
        frame,
        out,
        tokens,
        rows,
        hidden_row,
        *frame_strides,
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out
