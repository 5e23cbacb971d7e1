"""What the PyTorch twins share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.kernels.shapes import Rotation


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis in float32, cast back before the weight is applied (SPEC.md section 3)."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype) * weight


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates adjacent pairs of the last axis of x (B, n, S, heads, D), in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = rotation
    if x.device.type == "cpu":
        # One pass instead of six. Elsewhere it is written out, since torch.compile cannot fuse complex numbers.
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
    even, odd = pairs.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def attend_slots(q: Tensor, k_cache: Tensor, v_cache: Tensor, valid: int, bias: Tensor | None = None) -> Tensor:
    """Softmax attention of q (B, n, S, heads, D) over the first `valid` slots of caches (B, slots, S or 1, heads, D).

    With S tokens in the cache every token sees its own history; with one, all tokens share it. `bias` on the scores:
    (n, valid), or (n * S, valid) with one token in the cache. Returns (B, n, S, C).
    """
    batch, latents, tokens = q.shape[:3]
    k, v = k_cache[:, :valid], v_cache[:, :valid]
    if k_cache.shape[2] == 1:
        q, k, v = q.flatten(1, 2).transpose(1, 2), k[:, :, 0].transpose(1, 2), v[:, :, 0].transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return out.transpose(1, 2).reshape(batch, latents, tokens, -1)
    # Views and flatten rather than einops, whose bookkeeping costs as much as the products of a small network.
    q, k, v = (x.permute(0, 2, 3, 1, 4).flatten(0, 1) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return out.unflatten(0, (batch, tokens)).permute(0, 3, 1, 2, 4).flatten(3)
