# mypy: allow-untyped-defs, allow-incomplete-defs
"""Attention of all video tokens to one key and value per latent frame (SPEC.md section 2, keyboard path).

The reference repeats each key and value for all 390 pixels; here nothing is expanded: a few hundred KB of keys and
values stay in L2 and are read once per `ROWS` tokens, the queries and the output once. One program owns `ROWS` tokens
and `HB` heads; as in `pixel_attention`, the programs that share a token find its whole query row in L2 for RMSNorm.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import (
    Launch,
    angle_table,
    ceil_power_of_2,
    head_tile,
    refuse_grad,
    slot_strides,
    token_rows,
)
from scope_play.kernels.shapes import ChunkShape, Rotation, chunk_shape
from scope_play.kernels.triton_primitives import INTERPRET, attend, rotate_pairs, round_to, rows_rstd, scale_by_weight
from scope_play.kernels.tuning import Cut

DEFAULT_CUT = Cut()


@triton.jit(do_not_specialize=["valid"])
def button_attention_kernel(
    q_ptr,
    q_weight_ptr,
    cos_ptr,
    sin_ptr,
    k_cache_ptr,
    v_cache_ptr,
    out_ptr,
    valid,
    tokens,
    rows,
    q_row,
    cache_batch: tl.int64,
    cache_slot: tl.int64,
    eps,
    scale,
    ROWS: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    HB: tl.constexpr,
    DP: tl.constexpr,
    BLOCK_C: tl.constexpr,
    STAGES: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    C: tl.constexpr = HEADS * D
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    batch = tl.program_id(2)
    within = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = within < rows
    row = batch * rows + within
    head = tl.program_id(1) * HB + tl.arange(0, HB)
    dim = tl.arange(0, DP)
    column = head[:, None] * D + dim[None, :]
    in_row = (head < HEADS)[:, None] & (dim < D)[None, :]
    mask = live[:, None, None] & in_row[None, :, :]

    rstd = rows_rstd(q_ptr + row * q_row, live, C, BLOCK_C, eps)
    weight = tl.load(q_weight_ptr + column, mask=in_row, other=0.0).to(tl.float32)
    half = tl.arange(0, DP // 2)
    angle = (within // tokens)[:, None] * (D // 2) + half[None, :]
    angle_mask = live[:, None] & (half < D // 2)[None, :]
    cos = tl.load(cos_ptr + angle, mask=angle_mask, other=1.0)[:, None, :]
    sin = tl.load(sin_ptr + angle, mask=angle_mask, other=0.0)[:, None, :]
    q = tl.load(q_ptr + row[:, None, None] * q_row + column[None, :, :], mask=mask, other=0.0).to(tl.float32)
    q = scale_by_weight(q, rstd[:, None, None], weight[None, :, :], DTYPE, INTERPRET)
    q = round_to(rotate_pairs(q, cos, sin, ROWS, HB, DP), DTYPE, INTERPRET) * scale

    top = tl.full((ROWS, HB), float("-inf"), tl.float32)
    total = tl.zeros((ROWS, HB), tl.float32)
    mixed = tl.zeros((ROWS, HB, DP), tl.float32)
    cache = batch * cache_batch + column[None, :, :]
    for slot in tl.range(0, valid, num_stages=STAGES):
        at = cache + slot * cache_slot
        k = tl.load(k_cache_ptr + at, mask=in_row[None, :, :], other=0.0).to(tl.float32)
        v = tl.load(v_cache_ptr + at, mask=in_row[None, :, :], other=0.0).to(tl.float32)
        top, total, mixed = attend(q, k, v, top, total, mixed)

    mixed = round_to(mixed / total[:, :, None], DTYPE, INTERPRET)
    tl.store(out_ptr + row[:, None, None] * C + column[None, :, :], mixed.to(DTYPE), mask=mask)


def plan(shape: ChunkShape, *, cut: Cut = DEFAULT_CUT) -> Launch:
    heads, padded, warps = head_tile(shape, cut.tile)
    constants = {
        "ROWS": cut.rows,
        "HEADS": shape.heads,
        "D": shape.head_dim,
        "HB": heads,
        "DP": padded,
        "BLOCK_C": ceil_power_of_2(shape.width),
        "STAGES": cut.stages,
        "INTERPRET": INTERPRET,
    }
    blocks = triton.cdiv(shape.latents * shape.tokens, cut.rows)
    return Launch((blocks, triton.cdiv(shape.heads, heads), shape.batch), constants, warps)


def button_attention(
    q: Tensor,
    q_weight: Tensor,
    rotation: Rotation,
    k_cache: Tensor,
    v_cache: Tensor,
    valid: int,
    *,
    eps: float = 1e-6,
    cut: Cut = DEFAULT_CUT,
) -> Tensor:
    """See the twin in `button_attention_torch`, which this equals. No host synchronisation; no gradients."""
    refuse_grad(q, q_weight)
    shape = chunk_shape(q, k_cache, valid)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    q, q_row = token_rows(q)
    cos, sin = angle_table(rotation, shape.latents, shape.head_dim)
    launch = plan(shape, cut=cut)
    button_attention_kernel[launch.grid](
        q,
        q_weight,
        cos,
        sin,
        k_cache,
        v_cache,
        out,
        valid,
        shape.tokens,
        shape.latents * shape.tokens,
        q_row,
        *slot_strides(k_cache, v_cache),
        eps,
        shape.head_dim**-0.5 / math.log(2),
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out
