"""PyTorch twin of `norm_rope`: same arguments, same roundings; also the path for training and the CPU."""

from __future__ import annotations

from torch import Tensor

from scope_play.kernels.shapes import Rotation, chunk_shape
from scope_play.kernels.torch_primitives import rms_norm, rotate


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
    """RMSNorm and rotation of queries and keys, with keys and values put into the chunk's slots (SPEC.md section 3).

    q, k, v (B, n, S, C) are raw projections; caches (B, slots, S, heads, D) get the keys (normalised, rotated) and the
    values in slots 0 .. n - 1. Returns the queries (B, n, S, heads, D).
    """
    shape = chunk_shape(k, k_cache)
    heads = (shape.heads, shape.head_dim)
    k_cache[:, : shape.latents] = rotate(rms_norm(k, k_weight, eps).unflatten(-1, heads), rotation)
    v_cache[:, : shape.latents] = v.unflatten(-1, heads)
    return rotate(rms_norm(q, q_weight, eps).unflatten(-1, heads), rotation)
