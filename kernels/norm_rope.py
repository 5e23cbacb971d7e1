# mypy: allow-untyped-defs, allow-incomplete-defs
"""RMSNorm and rotation of queries and keys, with keys and values written to their cache slots, in one launch.

For video self-attention (3-D rotation). One program owns one token: it reads its three rows once, keeps them in
registers, and writes each once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import (
    Launch,
    angle_table,
    ceil_power_of_2,
    refuse_grad,
    row_warps,
    slot_strides,
    token_rows,
)
from scope_play.kernels.shapes import ChunkShape, Rotation, chunk_shape
from scope_play.kernels.triton_primitives import INTERPRET, rotate_pairs, round_to, scale_by_weight


@triton.jit
def _norm_and_rotate(
    x,
    weight,
    cos,
    sin,
    eps,
    C: tl.constexpr,
    HP: tl.constexpr,
    DP: tl.constexpr,
    DTYPE: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """x and weight (1, HP, DP), zero outside the row; cos and sin (1, 1, DP / 2)."""
    rstd = tl.rsqrt(tl.sum(tl.sum(x * x, axis=2), axis=1) / C + eps)
    x = scale_by_weight(x, rstd[:, None, None], weight, DTYPE, INTERPRET)
    return round_to(rotate_pairs(x, cos, sin, 1, HP, DP), DTYPE, INTERPRET)


@triton.jit
def norm_rope_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    q_weight_ptr,
    k_weight_ptr,
    cos_ptr,
    sin_ptr,
    q_out_ptr,
    k_cache_ptr,
    v_cache_ptr,
    tokens,
    rows,
    q_row,
    k_row,
    v_row,
    cache_batch: tl.int64,
    cache_slot: tl.int64,
    eps,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    HP: tl.constexpr,
    DP: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    C: tl.constexpr = HEADS * D
    DTYPE: tl.constexpr = k_cache_ptr.dtype.element_ty
    within = tl.program_id(0)
    batch = tl.program_id(1)
    row = batch * rows + within
    head = tl.arange(0, HP)
    dim = tl.arange(0, DP)
    column = (head[:, None] * D + dim[None, :])[None, :, :]
    mask = ((head < HEADS)[:, None] & (dim < D)[None, :])[None, :, :]
    half = tl.arange(0, DP // 2)
    angle = within * (D // 2) + half
    cos = tl.load(cos_ptr + angle, mask=half < D // 2, other=1.0)[None, None, :]
    sin = tl.load(sin_ptr + angle, mask=half < D // 2, other=0.0)[None, None, :]

    slot = batch * cache_batch + (within // tokens) * cache_slot + (within % tokens) * C
    v = tl.load(v_ptr + row * v_row + column, mask=mask, other=0.0)
    tl.store(v_cache_ptr + slot + column, v, mask=mask)
    k = tl.load(k_ptr + row * k_row + column, mask=mask, other=0.0).to(tl.float32)
    k_weight = tl.load(k_weight_ptr + column, mask=mask, other=0.0).to(tl.float32)
    k = _norm_and_rotate(k, k_weight, cos, sin, eps, C, HP, DP, DTYPE, INTERPRET)
    tl.store(k_cache_ptr + slot + column, k.to(DTYPE), mask=mask)
    q = tl.load(q_ptr + row * q_row + column, mask=mask, other=0.0).to(tl.float32)
    q_weight = tl.load(q_weight_ptr + column, mask=mask, other=0.0).to(tl.float32)
    q = _norm_and_rotate(q, q_weight, cos, sin, eps, C, HP, DP, DTYPE, INTERPRET)
    tl.store(q_out_ptr + row * C + column, q.to(DTYPE), mask=mask)


def plan(shape: ChunkShape) -> Launch:
    heads, padded = ceil_power_of_2(shape.heads), ceil_power_of_2(shape.head_dim)
    constants = {
        "HEADS": shape.heads,
        "D": shape.head_dim,
        "HP": heads,
        "DP": padded,
        "INTERPRET": INTERPRET,
    }
    return Launch((shape.latents * shape.tokens, shape.batch), constants, row_warps(heads * padded))


def norm_rope(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    rotation: Rotation,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    eps: float = 1e-6,
) -> Tensor:
    """See the twin in `norm_rope_torch`, which this equals. No host synchronisation; no gradients."""
    refuse_grad(q, k, v, q_weight, k_weight)
    shape = chunk_shape(k, k_cache)
    (k, k_row), (v, v_row) = token_rows(k), token_rows(v)
    rows = shape.latents * shape.tokens
    cos, sin = angle_table(rotation, rows, shape.head_dim)
    strides = slot_strides(k_cache, v_cache)
    out = torch.empty(*q.shape[:3], shape.heads, shape.head_dim, dtype=q.dtype, device=q.device)
    q, q_row = token_rows(q)
    launch = plan(shape)
    norm_rope_kernel[launch.grid](
        q,
        k,
        v,
        q_weight,
        k_weight,
        cos,
        sin,
        out,
        k_cache,
        v_cache,
        shape.tokens,
        rows,
        q_row,
        k_row,
        v_row,
        *strides,
        eps,
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out
