"""PyTorch twin of `pixel_attention`: same arguments, same roundings; also the path for training and the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.kernels.fp8 import Remembered, widen
from scope_play.kernels.shapes import Rotation, chunk_shape
from scope_play.kernels.torch_primitives import attend_slots, rms_norm, rotate


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
    bias: Tensor | None = None,
) -> Tensor:
    """Attention of every pixel over its own history (SPEC.md section 2, mouse path).

    q, k, v (B, n, S, C) are raw projections of the chunk's n latents, q_weight and k_weight (C,) the RMSNorm weights,
    caches (B, slots, S, heads, D) with the chunk's own slots first. Queries see the chunk and slots n .. valid - 1;
    their keys are expected normalised and rotated. Slots 0 .. n - 1 receive the chunk's keys (normalised, rotated) and
    values. Returns (B, n, S, C).

    `bias` (n, valid) on the scores, which the Triton kernel does not know: who sees whom, for slots held in full.
    With `remembered` the caches hold the chunk's own slots alone, and slot n + j is slot j of `remembered`.
    """
    shape = chunk_shape(q, k_cache, valid, remembered)
    heads = (shape.heads, shape.head_dim)
    queries = rotate(rms_norm(q, q_weight, eps).unflatten(-1, heads), rotation)
    k_cache[:, : shape.latents] = rotate(rms_norm(k, k_weight, eps).unflatten(-1, heads), rotation)
    v_cache[:, : shape.latents] = v.unflatten(-1, heads)
    if remembered is None:
        return attend_slots(queries, k_cache, v_cache, valid, bias)
    # In float32, as the fused kernel does: 8-bit numbers times their scales lie between those of bfloat16.
    keys, values = (
        torch.cat([own[:, : shape.latents].float(), widen(past, torch.float32)], 1)
        for own, past in zip((k_cache, v_cache), remembered, strict=True)
    )
    return attend_slots(queries.float(), keys, values, valid).to(q.dtype)
