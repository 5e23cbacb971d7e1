"""What the PyTorch twins share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from scope_play.kernels.shapes import Rotation, Valid


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis in float32, cast back before the weight is applied (SPEC.md section 3)."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates adjacent pairs of the last axis of x (B, n, S, heads, D), in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def attend_slots(q: Tensor, k_cache: Tensor, v_cache: Tensor, valid: Valid, bias: Tensor | None = None) -> Tensor:
    """Softmax attention of q (B, n, S, heads, D) over the first `valid` slots of caches (B, slots, S or 1, heads, D).

    With S tokens in the cache every token sees its own history; with one, all tokens share it. `bias` on the scores,
    where `valid` is an int: (n, valid), or (n * S, valid) with one token in the cache. Returns (B, n, S, C).
    """
    batch, latents, tokens = q.shape[:3]
    mask = bias
    if isinstance(valid, int):
        k, v = k_cache[:, :valid], v_cache[:, :valid]
    else:
        # A slot beyond the prefix may hold NaN, and 0 * NaN is NaN: masking the score alone would not do.
        mask = (torch.arange(k_cache.shape[1], device=q.device) < valid)[None, :]
        used = mask[0, :, None, None, None]
        k, v = torch.where(used, k_cache, 0), torch.where(used, v_cache, 0)
    if k_cache.shape[2] == 1 and tokens > 1:
        q = rearrange(q, "b n s heads d -> b heads (n s) d")
        k, v = (rearrange(x, "b slots 1 heads d -> b heads slots d") for x in (k, v))
        back = "b heads (n s) d -> b n s (heads d)"
    else:
        q, k, v = (rearrange(x, "b n s heads d -> (b s) heads n d") for x in (q, k, v))
        back = "(b s) heads n d -> b n s (heads d)"
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return rearrange(out, back, b=batch, n=latents, s=tokens)
