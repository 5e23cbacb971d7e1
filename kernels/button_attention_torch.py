"""PyTorch twin of `button_attention`: same arguments, same roundings; also the path for training and the CPU."""

from __future__ import annotations

from torch import Tensor

from scope_play.kernels.shapes import Rotation, chunk_shape
from scope_play.kernels.torch_primitives import attend_slots, rms_norm, rotate


def button_attention(
    q: Tensor,
    q_weight: Tensor,
    rotation: Rotation,
    k_cache: Tensor,
    v_cache: Tensor,
    valid: int,
    *,
    eps: float = 1e-6,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention of all tokens to one key and value per latent frame (SPEC.md section 2, keyboard path).

    q (B, n, S, C) is the raw projection, q_weight (C,) its RMSNorm weight, caches (B, slots, 1, heads, D) hold keys
    normalised and rotated, the chunk's own in slots 0 .. n - 1 (`norm_rope` writes them). Returns (B, n, S, C).
    """
    shape = chunk_shape(q, k_cache, valid)
    queries = rotate(rms_norm(q, q_weight, eps).unflatten(-1, (shape.heads, shape.head_dim)), rotation)
    return attend_slots(queries, k_cache, v_cache, valid, bias)
