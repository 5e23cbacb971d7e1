"""What the reference computes where this project has a kernel, transcribed from SPEC.md without any shortcut.

Same signatures as the kernels. The regrouping by pixel, the repeated button keys, the complex128 rotation, the
concatenated keys and the per-token copies of per-frame vectors are the reference's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from scope_play.kernels.fp8 import Remembered, widen
from scope_play.kernels.shapes import Rotation


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x (..., heads, D), rotated as complex128 numbers."""
    turn = torch.complex(rotation[0].double(), rotation[1].double())
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def _append(cache: Tensor, valid: int, chunk: Tensor) -> Tensor:
    """The chunk (B, n, S, heads, D) followed by what a cache remembers: a new tensor at every pass."""
    return torch.cat([chunk, cache[:, chunk.shape[1] : valid]], dim=1)


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
) -> Tensor:
    batch, latents, tokens, _ = q.shape
    heads = k_cache.shape[3:]
    if remembered is not None:  # 8 bits without a kernel that reads them: all is widened first
        widened = (widen(past, q.dtype) for past in remembered)
        k_cache, v_cache = (
            torch.cat([own[:, :latents], past], dim=1) for own, past in zip((k_cache, v_cache), widened, strict=True)
        )
    queries = rotate(rms_norm(q, q_weight, eps).unflatten(-1, heads), rotation)
    keys = _append(k_cache, valid, rotate(rms_norm(k, k_weight, eps).unflatten(-1, heads), rotation))
    values = _append(v_cache, valid, v.unflatten(-1, heads))
    queries, keys, values = (rearrange(x, "b f s h d -> (b s) h f d").contiguous() for x in (queries, keys, values))
    out = F.scaled_dot_product_attention(queries, keys, values)
    return rearrange(out, "(b s) h f d -> b f s (h d)", b=batch, s=tokens)


def button_attention(
    q: Tensor,
    q_weight: Tensor,
    rotation: Rotation,
    k_cache: Tensor,
    v_cache: Tensor,
    valid: int,
    *,
    eps: float = 1e-6,
) -> Tensor:
    batch, _, tokens, _ = q.shape
    queries = rotate(rms_norm(q, q_weight, eps).unflatten(-1, k_cache.shape[3:]), rotation)
    grouped = rearrange(queries, "b f s h d -> (b s) h f d").contiguous()
    keys, values = (repeat(x[:, :valid], "b f 1 h d -> (b s) h f d", s=tokens) for x in (k_cache, v_cache))
    return rearrange(
        F.scaled_dot_product_attention(grouped, keys, values), "(b s) h f d -> b f s (h d)", b=batch, s=tokens
    )


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
    heads, slots = k_cache.shape[3:], k_cache.shape[1]
    _append(k_cache, slots, rotate(rms_norm(k, k_weight, eps).unflatten(-1, heads), rotation))
    _append(v_cache, slots, v.unflatten(-1, heads))
    return rotate(rms_norm(q, q_weight, eps).unflatten(-1, heads), rotation)


def _per_token(frame: Tensor, x: Tensor) -> Tensor:
    return repeat(frame, "b f 1 c -> b f s c", s=x.shape[2])


def modulate(x: Tensor, shift: Tensor, scale: Tensor, *, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + _per_token(scale, x)) + _per_token(shift, x)


def gate_add(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    return x + _per_token(gate, x) * y


def action_fuse(hidden: Tensor, frame: Tensor) -> Tensor:
    return F.gelu(hidden + _per_token(frame, hidden), approximate="tanh")
