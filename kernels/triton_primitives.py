# mypy: allow-untyped-defs, allow-incomplete-defs
"""What the Triton kernels share: rounding as PyTorch rounds, RMSNorm over a whole row, rotation of adjacent pairs.

`INTERPRET` is true under TRITON_INTERPRET=1 and reaches every kernel as a compile-time constant. The interpreter
stores bfloat16 as raw 16-bit integers, so arithmetic on it is wrong, and its float32 -> bfloat16 conversion truncates.
Kernels therefore widen to float32 right after every load and round with `round_to` before every store.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRET = bool(triton.knobs.runtime.interpret)
"""Fixed when the kernels are imported, because `triton.jit` decides then."""


@triton.jit
def round_to(x, DTYPE: tl.constexpr, INTERPRET: tl.constexpr):
    """float32 `x` -> the nearest values of DTYPE (ties to even), kept as float32."""
    if tl.float32 == DTYPE:
        rounded = x
    elif INTERPRET and tl.bfloat16 == DTYPE:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        rounded = bits.to(tl.float32, bitcast=True)
    else:
        rounded = x.to(DTYPE).to(tl.float32)
    return rounded


@triton.jit
def rows_rstd(rows, mask, C: tl.constexpr, BLOCK_C: tl.constexpr, eps):
    """1/rms of whole rows of C elements. rows: pointers to the row starts (N,); mask (N,). Returns float32 (N,)."""
    columns = tl.arange(0, BLOCK_C)
    inside = mask[:, None] & (columns < C)[None, :]
    x = tl.load(rows[:, None] + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    return tl.rsqrt(tl.sum(x * x, axis=1) / C + eps)


@triton.jit
def scale_by_weight(x, rstd, weight, DTYPE: tl.constexpr, INTERPRET: tl.constexpr):
    """RMSNorm's second half, rounded as the reference does (SPEC.md section 3): normalise, cast, apply the weight."""
    return round_to(round_to(x * rstd, DTYPE, INTERPRET) * weight, DTYPE, INTERPRET)


@triton.jit
def rotate_pairs(x, cos, sin, A: tl.constexpr, B: tl.constexpr, D: tl.constexpr):
    """Rotates adjacent pairs (2j, 2j + 1) of x (A, B, D); cos and sin broadcast to (A, B, D / 2)."""
    even, odd = tl.split(tl.reshape(x, (A, B, D // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (A, B, D))


E4M3_TO_HALF = tl.constexpr(256.0)
"""What `widen_e4m3` leaves out: the difference between the exponents' offsets of e4m3 and float16 is 8."""


@triton.jit
def widen_e4m3(bits):
    """The bits of finite e4m3 numbers (uint8) -> float32 of a 256th of their value, exactly, on any GPU.

    Sign, exponent and fraction lie in float16 as they do in e4m3; subnormal numbers stay subnormal.
    """
    bits = bits.to(tl.uint16)
    half = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
    return half.to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def attend_rounded(q, k, v, k_scale, v_scale, top, total, mixed):
    """As `attend` for a key and value whose heads have scales (1, heads)."""
    score = tl.sum(q * k, axis=2) * k_scale
    new_top = tl.maximum(top, score)
    decay = tl.exp2(top - new_top)
    weight = tl.exp2(score - new_top)
    return new_top, total * decay + weight, mixed * decay[:, :, None] + (weight * v_scale)[:, :, None] * v


@triton.jit
def attend(q, k, v, top, total, mixed):
    """One key and value for all queries: a step of the online softmax.

    q (R, heads, D) carries the softmax scale times log2(e); k, v (1, heads, D). State: the greatest score `top` and the
    sum of weights `total` (R, heads), the weighted values `mixed` (R, heads, D).
    Only the last axis is ever reduced, so all of it keeps one register layout and no step goes through shared memory.
    """
    score = tl.sum(q * k, axis=2)
    new_top = tl.maximum(top, score)
    decay = tl.exp2(top - new_top)
    weight = tl.exp2(score - new_top)
    return new_top, total * decay + weight, mixed * decay[:, :, None] + weight[:, :, None] * v
