"""How long a clip will take on a processor, said before it is begun."""

from __future__ import annotations

import time

import torch

from scope_play.loading.memory import dit_counts, latent_size, tokens_per_latent
from scope_play.model.dit.config import DiTConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.sampling.clip import ClipShape, Sampling
from scope_play.sampling.guidance import guidance_branches

DECODER_PRODUCTS = 8.5e6
"""Multiply-adds of the released decoder per pixel of a frame; counted with torch's FlopCounterMode."""
RELEASED_WIDTH = 256


def clip_seconds(config: DiTConfig, vae: VAEConfig, shape: ClipShape, sampling: Sampling, dtype: torch.dtype) -> float:
    """Of sampling and decoding, at the rate of a product like those of a block, measured now."""
    passes = sampling.steps * len(guidance_branches(sampling.guidance, sampling.action_guidance))
    tokens = shape.latents * tokens_per_latent(config, latent_size(vae, shape.height, shape.width))
    parameters = dit_counts(config).blocks
    attention = 2 * config.layers * tokens * config.dim
    pixels = shape.frames * shape.height * shape.width
    decoding = DECODER_PRODUCTS * (vae.dec_dim / RELEASED_WIDTH) ** 2 * pixels
    return (passes * tokens * (parameters + attention) + decoding) / product_rate(config, min(tokens, 1024), dtype)


def product_rate(config: DiTConfig, tokens: int, dtype: torch.dtype) -> float:
    """Multiply-adds a second of the feed-forward's first product over so many tokens."""
    x, weight = torch.zeros(tokens, config.dim, dtype=dtype), torch.zeros(config.ffn_dim, config.dim, dtype=dtype)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        times.append(time.perf_counter() - began)
    return tokens * config.dim * config.ffn_dim / min(times)
