"""Few-step rollouts with the streaming cache, as in play, for a batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.dit import DiT
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT


def noise_like(shape: Sequence[int], draw: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise on `device`, drawn where `draw` is."""
    return torch.randn(tuple(shape), generator=draw, device=draw.device).to(device)


@torch.no_grad()
def rollout(
    model: DiT,
    first: Tensor,
    buttons: Tensor,
    sticks: Tensor,
    latents: int,
    *,
    window: int,
    sigmas: Sequence[float],
    draw: torch.Generator,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Plays `latents` latent frames from the start image's latent.

    first (B, C, h, w); buttons (B, N, 6) and sticks (B, N, 4) with N >= 4 (latents - 1); sigmas: the noise levels
    visited, descending from 1; project: what the codec makes of each latent before it is remembered. Returns
    (B, C, latents, h, w), the first being `first`.
    """
    action = model.config.action
    if action is None:
        raise ValueError("rollouts need a model with actions")
    batch, channels, height, width = first.shape
    tokens = model.tokens_per_frame(height, width)
    cache = StreamCache(model.config, CacheConfig(window=window), batch=batch, tokens=tokens, device=first.device)
    stick_windows, button_windows = window_rows(sticks, latents, action), window_rows(buttons, latents, action)
    streamed = PlainDiT(model)
    zero = streamed.embed_time(torch.zeros(batch, 1, device=first.device), 1)
    made = [first]
    for index in range(latents):
        windows = ActionWindows(stick_windows[:, index : index + 1], button_windows[:, index : index + 1])
        if index > 0:
            noise = noise_like((batch, channels, 1, height, width), draw, first.device) * model.config.noise_scale
            latent = _denoise(streamed, noise, cache, windows, sigmas)
            made.append((latent if project is None else project(latent))[:, :, 0])
        latent = made[-1][:, :, None]
        streamed.step(latent, zero, cache, streamed.plan_chunk(latent, cache, windows))
        cache.commit()
    return torch.stack(made, 2)


def _denoise(
    streamed: PlainDiT, x: Tensor, cache: StreamCache, windows: ActionWindows, sigmas: Sequence[float]
) -> Tensor:
    plan = streamed.plan_chunk(x, cache, windows)
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        time = streamed.embed_time(torch.full((len(x), 1), 1000 * sigma, device=x.device), 1)
        x = x + (following - sigma) * streamed.step(x, time, cache, plan).float()
    return x
