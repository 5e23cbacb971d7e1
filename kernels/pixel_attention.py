# mypy: allow-untyped-defs, allow-incomplete-defs
"""Per-pixel temporal attention of the ActionModule's mouse path, in one launch (SPEC.md section 2, "ActionModule").

Every pixel is its own short time series: one to four queries over a dozen keys, 390 pixels x 24 heads. Arithmetic is
negligible; the kernel's whole duty is to read the cached keys and values once, in wide loads, and nothing else.

How it is cut: one program owns one pixel and `HB` heads, so that a slot of its cache is one contiguous run of HB * D
elements. SCOPE (C = 3072): 8 heads = 2 KB a slot, 16 bytes for each of 128 threads; 390 x 3 programs, 8.9 for each of
an H200's 132 multiprocessors, all resident at once. Slots stream through shared memory by asynchronous copies,
`STAGES` deep: 4 KB x 2 in flight for each of nine programs exceeds the 23 KB a multiprocessor needs to cover 700 ns at
4.3 TB/s. RMSNorm spans all heads, so each program reads the whole query and key row for its mean square; the other two
programs of the pixel find it in L2. A single latent's own key and value stay in registers, so caching them costs no
read. Those of several are written to their slots one by one and read back with all others, each slot once for all
queries: registers then hold queries and sums alone, and 6 programs of three latents, 5 of four are resident where 4 and
3 were with all keys beside them. Slots remembered in 8 bits are read as such, which halves the traffic, and widened in
registers; their scales act once a head, on the score and on the weight.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.fp8 import Remembered
from scope_play.kernels.launch import (
    Launch,
    angle_table,
    ceil_power_of_2,
    head_tile,
    refuse_grad,
    rounded_arguments,
    slot_strides,
    token_rows,
)
from scope_play.kernels.shapes import ChunkShape, Rotation, chunk_shape
from scope_play.kernels.triton_primitives import (
    E4M3_TO_HALF,
    INTERPRET,
    attend,
    attend_rounded,
    rotate_pairs,
    round_to,
    rows_rstd,
    scale_by_weight,
    widen_e4m3,
)
from scope_play.kernels.tuning import Cut

DEFAULT_CUT = Cut()
SIDE_BY_SIDE = {1: 1, 2: 2, 3: 2, 4: 4}
"""Latents of a chunk -> queries in one tensor; a third is by itself, since a fourth beside it would be computed too."""


@triton.jit(do_not_specialize=["valid"])
def pixel_attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    q_weight_ptr,
    k_weight_ptr,
    cos_ptr,
    sin_ptr,
    k_cache_ptr,
    v_cache_ptr,
    past_k_ptr,
    past_v_ptr,
    past_k_scale_ptr,
    past_v_scale_ptr,
    out_ptr,
    valid,
    pixels,
    q_row,
    k_row,
    v_row,
    cache_batch: tl.int64,
    cache_slot: tl.int64,
    cache_past_batch: tl.int64,
    cache_past_slot: tl.int64,
    eps,
    scale,
    N: tl.constexpr,
    NP: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    HB: tl.constexpr,
    DP: tl.constexpr,
    BLOCK_C: tl.constexpr,
    STAGES: tl.constexpr,
    ROUNDED: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    C: tl.constexpr = HEADS * D
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    pixel = tl.program_id(0)
    group = tl.program_id(1)
    batch = tl.program_id(2)
    latent = tl.arange(0, NP)
    head = group * HB + tl.arange(0, HB)
    dim = tl.arange(0, DP)
    column = head[:, None] * D + dim[None, :]
    in_row = (head < HEADS)[:, None] & (dim < D)[None, :]
    mask = in_row[None, :, :]
    half = tl.arange(0, DP // 2)
    cache = batch * cache_batch + pixel * C
    context = cache + column[None, :, :]

    top = tl.full((NP, HB), float("-inf"), tl.float32)
    total = tl.zeros((NP, HB), tl.float32)
    mixed = tl.zeros((NP, HB, DP), tl.float32)
    q = tl.zeros((NP, HB, DP), tl.float32)
    if N > NP:
        last_top, last_total = tl.full((1, HB), float("-inf"), tl.float32), tl.zeros((1, HB), tl.float32)
        last_q, last_mixed = tl.zeros((1, HB, DP), tl.float32), tl.zeros((1, HB, DP), tl.float32)
    for own in tl.range(0, N, num_stages=1):
        row = (batch * N + own) * pixels + pixel + tl.arange(0, 1)
        q_rstd = rows_rstd(q_ptr + row * q_row, row >= 0, C, BLOCK_C, eps)
        k_rstd = rows_rstd(k_ptr + row * k_row, row >= 0, C, BLOCK_C, eps)
        q_weight = tl.load(q_weight_ptr + column, mask=in_row, other=0.0).to(tl.float32)
        k_weight = tl.load(k_weight_ptr + column, mask=in_row, other=0.0).to(tl.float32)
        angle = own * (D // 2) + half
        cos = tl.load(cos_ptr + angle, mask=half < D // 2, other=1.0)[None, None, :]
        sin = tl.load(sin_ptr + angle, mask=half < D // 2, other=0.0)[None, None, :]
        at = row[:, None, None]
        new_q = tl.load(q_ptr + at * q_row + column[None, :, :], mask=mask, other=0.0).to(tl.float32)
        new_q = scale_by_weight(new_q, q_rstd[:, None, None], q_weight[None, :, :], DTYPE, INTERPRET)
        new_q = round_to(rotate_pairs(new_q, cos, sin, 1, HB, DP), DTYPE, INTERPRET)
        q = tl.where((latent == own)[:, None, None], new_q * scale, q)
        if N > NP:
            last_q = new_q * scale
        new_v = tl.load(v_ptr + at * v_row + column[None, :, :], mask=mask, other=0.0).to(tl.float32)
        new_k = tl.load(k_ptr + at * k_row + column[None, :, :], mask=mask, other=0.0).to(tl.float32)
        tl.store(v_cache_ptr + context + own * cache_slot, new_v.to(DTYPE), mask=mask)
        new_k = scale_by_weight(new_k, k_rstd[:, None, None], k_weight[None, :, :], DTYPE, INTERPRET)
        new_k = round_to(rotate_pairs(new_k, cos, sin, 1, HB, DP), DTYPE, INTERPRET)
        tl.store(k_cache_ptr + context + own * cache_slot, new_k.to(DTYPE), mask=mask)
        if N == 1:
            top, total, mixed = attend(q, new_k, new_v, top, total, mixed)
    if N > 1:
        tl.debug_barrier()  # other threads read back what was written above

    if ROUNDED:
        if N > 1:
            for slot in tl.range(0, N, num_stages=1):
                at = context + slot * cache_slot
                own_k = tl.load(k_cache_ptr + at, mask=mask, other=0.0).to(tl.float32)
                own_v = tl.load(v_cache_ptr + at, mask=mask, other=0.0).to(tl.float32)
                top, total, mixed = attend(q, own_k, own_v, top, total, mixed)
                if N > NP:
                    last_top, last_total, last_mixed = attend(last_q, own_k, own_v, last_top, last_total, last_mixed)
        past = batch * cache_past_batch + pixel * C
        heads = (head < HEADS)[None, :]
        for slot in tl.range(0, valid - N, num_stages=STAGES):
            at = past + slot * cache_past_slot
            scale_at = at // D + head[None, :]
            at += column[None, :, :]
            old_k = widen_e4m3(tl.load(past_k_ptr + at, mask=mask, other=0))
            old_v = widen_e4m3(tl.load(past_v_ptr + at, mask=mask, other=0))
            k_scale = tl.load(past_k_scale_ptr + scale_at, mask=heads, other=0.0) * E4M3_TO_HALF
            v_scale = tl.load(past_v_scale_ptr + scale_at, mask=heads, other=0.0) * E4M3_TO_HALF
            top, total, mixed = attend_rounded(q, old_k, old_v, k_scale, v_scale, top, total, mixed)
            if N > NP:
                last_top, last_total, last_mixed = attend_rounded(
                    last_q, old_k, old_v, k_scale, v_scale, last_top, last_total, last_mixed
                )
    else:
        for slot in tl.range(N if N == 1 else 0, valid, num_stages=STAGES):
            at = context + slot * cache_slot
            old_k = tl.load(k_cache_ptr + at, mask=mask, other=0.0).to(tl.float32)
            old_v = tl.load(v_cache_ptr + at, mask=mask, other=0.0).to(tl.float32)
            top, total, mixed = attend(q, old_k, old_v, top, total, mixed)
            if N > NP:
                last_top, last_total, last_mixed = attend(last_q, old_k, old_v, last_top, last_total, last_mixed)

    out = out_ptr + (batch * N * pixels + pixel) * C + column[None, :, :]
    at = out + latent[:, None, None] * pixels * C
    tl.store(at, round_to(mixed / total[:, :, None], DTYPE, INTERPRET).to(DTYPE), mask=mask)
    if N > NP:
        last = round_to(last_mixed / last_total[:, :, None], DTYPE, INTERPRET)
        tl.store(out + NP * pixels * C, last.to(DTYPE), mask=mask)


def plan(shape: ChunkShape, *, rounded: bool = False, cut: Cut = DEFAULT_CUT) -> Launch:
    heads, padded, warps = head_tile(shape, cut.tile)
    constants = {
        "N": shape.latents,
        "NP": SIDE_BY_SIDE[shape.latents],
        "HEADS": shape.heads,
        "D": shape.head_dim,
        "HB": heads,
        "DP": padded,
        "BLOCK_C": ceil_power_of_2(shape.width),
        "STAGES": cut.stages,
        "ROUNDED": rounded,
        "INTERPRET": INTERPRET,
    }
    return Launch((shape.tokens, triton.cdiv(shape.heads, heads), shape.batch), constants, warps)


def pixel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    rotation: Rotation,
    k_cache: Tensor,
    v_cache: Tensor,
    valid: int,
    *,
    remembered: Remembered | None = None,
    eps: float = 1e-6,
    cut: Cut = DEFAULT_CUT,
) -> Tensor:
    """See the twin in `pixel_attention_torch`, which this equals. No host synchronisation; no gradients."""
    refuse_grad(q, k, v, q_weight, k_weight)
    shape = chunk_shape(q, k_cache, valid, remembered)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    (q, q_row), (k, k_row), (v, v_row) = token_rows(q), token_rows(k), token_rows(v)
    cos, sin = angle_table(rotation, shape.latents, shape.head_dim)
    launch = plan(shape, rounded=remembered is not None, cut=cut)
    past: tuple[Tensor, ...] = (k_cache, v_cache, k_cache, v_cache)
    past_strides = 0, 0
    if remembered is not None:
        past, past_strides = rounded_arguments(remembered)
    pixel_attention_kernel[launch.grid](
        q,
        k,
        v,
        q_weight,
        k_weight,
        cos,
        sin,
        k_cache,
        v_cache,
        *past,
        out,
        valid,
        shape.tokens,
        q_row,
        k_row,
        v_row,
        *slot_strides(k_cache, v_cache),
        *past_strides,
        eps,
        shape.head_dim**-0.5 / math.log(2),
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out
