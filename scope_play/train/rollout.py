"""Few-step rollouts with the streaming cache, as in play, for a batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.dit import DiT
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT

if TYPE_CHECKING:
    from scope_play.train.methods.batch import ClipBatch


def noise_like(shape: Sequence[int], draw: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise on `device`, drawn where `draw` is."""
    return torch.randn(tuple(shape), generator=draw, device=draw.device).to(device)


@dataclass(frozen=True)
class Played:
    """latents (B, C, F, h, w), the first as given; noisy (B, C, F - 1, h, w), what the last step of each other began
    from."""

    latents: Tensor
    noisy: Tensor


def play(network: DiT, batch: ClipBatch, *, sigmas: Sequence[float], window: int, draw: torch.Generator) -> Played:
    """Plays a batch's clips from their start images, under their prompts and actions."""
    text = None if batch.context is None else network.text_keys(batch.context)
    first, count = batch.first[:, :, 0], batch.latents.shape[2]
    return rollout(
        network, first, batch.buttons, batch.sticks, count, window=window, sigmas=sigmas, draw=draw, text=text
    )


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
    text: list[TextKV] | None = None,
) -> Played:
    """Plays `latents` latent frames from the start image's.

    first (B, C, h, w); buttons (B, N, 6) and sticks (B, N, 4) with N >= 4 (latents - 1); sigmas: the noise levels
    visited, descending from 1; project: what the codec makes of each latent before it is remembered; text: the prompts'
    keys.
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
    made, begun = [first], []
    for index in range(latents):
        windows = ActionWindows(stick_windows[:, index : index + 1], button_windows[:, index : index + 1])
        if index > 0:
            x = noise_like((batch, channels, 1, height, width), draw, first.device) * model.config.noise_scale
            plan = streamed.plan_chunk(x, cache, windows)
            for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
                noisy = x
                time = streamed.embed_time(torch.full((batch, 1), 1000 * sigma, device=x.device), 1)
                x = x + (following - sigma) * streamed.step(x, time, cache, plan, text_cache=text).float()
            begun.append(noisy)
            made.append((x if project is None else project(x))[:, :, 0])
        latent = made[-1][:, :, None]
        streamed.step(latent, zero, cache, streamed.plan_chunk(latent, cache, windows), text_cache=text)
        cache.commit()
    return Played(torch.stack(made, 2), torch.cat(begun, 2))
