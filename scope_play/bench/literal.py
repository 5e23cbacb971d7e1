"""The network written as SPEC.md tells it, with no thought of speed: what `bench dit` compares against.

Actions are joined to every pixel before every projection, button keys and values are repeated for every pixel,
modulation is computed for every token, text keys in every block of every pass. It shares parameters with the DiT that
it transcribes, so a comparison differs in nothing but the way of computing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionModule
from scope_play.model.dit.block import Block
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layers import Attention, RMSNorm

TABLE_POSITIONS = 1024


def literal_forward(
    dit: DiT, latents: Tensor, timestep: Tensor, context: Tensor, buttons: Tensor, sticks: Tensor
) -> Tensor:
    """One pass with a clean first latent. latents (1, C, F, H, W), timestep a scalar, rows (1, N, 6) and (1, N, 4)."""
    if dit.text_embedding is None or dit.config.action is None:
        raise ScopeError("the literal transcription needs a network with text and actions")
    config = dit.config
    frames, height, width = latents.shape[2], latents.shape[3] // 2, latents.shape[4] // 2
    x = rearrange(dit.patch_embedding(latents), "b c f h w -> b (f h w) c")
    tokens = height * width
    timesteps = torch.cat([torch.zeros(tokens), timestep.expand((frames - 1) * tokens)])
    half = config.freq_dim // 2
    frequencies = torch.pow(10000, -torch.arange(half, dtype=torch.float64) / half)
    angles = timesteps.double()[:, None] * frequencies
    sinusoid = torch.cat([angles.cos(), angles.sin()], 1).to(latents.dtype)[None]
    time = dit.time_embedding(sinusoid)
    modulation = dit.time_projection(time).unflatten(2, (6, config.dim))
    text = dit.text_embedding(context)
    freqs = video_freqs(frames, height, width, config.head_dim)
    freqs_time = freqs_1d(config.head_dim)[:frames].view(frames, 1, -1)
    for block in dit.blocks:
        x = literal_block(block, x, modulation, text, freqs, freqs_time, buttons, sticks, frames)  # type: ignore[arg-type]
    shift, scale = (dit.head.modulation[:, None] + time[:, :, None]).chunk(2, dim=2)
    x = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + scale.squeeze(2)) + shift.squeeze(2)
    return rearrange(dit.head.head(x), "b (f h w) (p q c) -> b c f (h p) (w q)", f=frames, h=height, w=width, p=2, q=2)


def freqs_1d(dim: int, positions: int = TABLE_POSITIONS) -> Tensor:
    theta = 1.0 / torch.pow(10000, torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), theta)
    return torch.polar(torch.ones_like(angles), angles)


def video_freqs(frames: int, height: int, width: int, head_dim: int) -> Tensor:
    space = head_dim // 3
    time, rows, columns = freqs_1d(head_dim - 2 * space), freqs_1d(space), freqs_1d(space)
    grid = [
        time[:frames].view(frames, 1, 1, -1).expand(frames, height, width, -1),
        rows[:height].view(1, height, 1, -1).expand(frames, height, width, -1),
        columns[:width].view(1, 1, width, -1).expand(frames, height, width, -1),
    ]
    return torch.cat(grid, dim=-1).reshape(frames * height * width, 1, -1)


def apply_rope(x: Tensor, freqs: Tensor, heads: int) -> Tensor:
    x = rearrange(x, "b s (heads d) -> b s heads d", heads=heads)
    turned = torch.view_as_complex(x.double().reshape(*x.shape[:3], -1, 2)) * freqs
    return torch.view_as_real(turned).flatten(2).to(x.dtype)


def rms_norm(norm: RMSNorm, x: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps)).to(x.dtype) * norm.weight


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (rearrange(t, "b s (heads d) -> b heads s d", heads=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b heads s d -> b s (heads d)")


def literal_block(
    block: Block,
    x: Tensor,
    modulation: Tensor,
    text: Tensor,
    freqs: Tensor,
    freqs_time: Tensor,
    buttons: Tensor,
    sticks: Tensor,
    frames: int,
) -> Tensor:
    parts = (block.modulation[:, None] + modulation).chunk(6, dim=2)
    shift1, scale1, gate1, shift2, scale2, gate2 = (part.squeeze(2) for part in parts)
    eps, attn, cross = block.eps, block.self_attn, block.cross_attn
    y = F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale1) + shift1
    q = apply_rope(rms_norm(attn.norm_q, attn.q(y)), freqs, attn.heads)
    k = apply_rope(rms_norm(attn.norm_k, attn.k(y)), freqs, attn.heads)
    x = x + gate1 * attn.o(attention(q, k, attn.v(y), attn.heads))
    x = x + literal_cross(cross, block.norm3(x), text)  # type: ignore[arg-type, misc]
    x = literal_action(block.action_attn, x, freqs_time, buttons, sticks, frames)  # type: ignore[arg-type]
    y = F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale2) + shift2
    return x + gate2 * block.ffn(y)


def literal_cross(cross: Attention, x: Tensor, text: Tensor) -> Tensor:
    q, k, v = rms_norm(cross.norm_q, cross.q(x)), rms_norm(cross.norm_k, cross.k(text)), cross.v(text)
    return cross.o(attention(q, k, v, cross.heads))


def literal_action(
    module: ActionModule, x: Tensor, freqs: Tensor, buttons: Tensor, sticks: Tensor, frames: int
) -> Tensor:
    """x (1, F * S, C) -> same shape."""
    tokens, heads = x.shape[1] // frames, module.heads
    hidden = rearrange(x, "b (f s) c -> (b s) f c", f=frames)
    padded = torch.cat([sticks[:, :1].repeat(1, 16, 1), sticks], 1)
    windows = torch.stack([padded[:, 4 * i : 4 * i + 16] for i in range(frames)], 1)
    windows = repeat(windows, "b f rows axes -> (b s) f (rows axes)", s=tokens)
    mixed = module.mouse_mlp(torch.cat([hidden, windows], -1))
    attn = module.mouse_attn
    q = apply_rope(rms_norm(attn.norm_q, attn.q(mixed)), freqs, heads)
    k = apply_rope(rms_norm(attn.norm_k, attn.k(mixed)), freqs, heads)
    hidden = hidden + attn.o(attention(q, k, attn.v(mixed), heads))

    embedded = module.keyboard_embed(buttons)
    embedded = torch.cat([embedded[:, :1].repeat(1, 16, 1), embedded], 1)
    windows = torch.stack([embedded[:, 4 * i : 4 * i + 16] for i in range(frames)], 1)
    windows = rearrange(windows, "b f rows width -> b f (rows width)")
    k, v = module.keyboard_kv_proj(windows).chunk(2, -1)
    k = repeat(rms_norm(module.key_attn_k_norm, k), "b f c -> (b s) f c", s=tokens)
    v = repeat(v, "b f c -> (b s) f c", s=tokens)
    q = apply_rope(rms_norm(module.key_attn_q_norm, module.keyboard_q_proj(hidden)), freqs, heads)
    k = apply_rope(k, freqs, heads)
    hidden = hidden + module.keyboard_o_proj(attention(q, k, v, heads))
    return rearrange(hidden, "(b s) f c -> b (f s) c", s=tokens)
