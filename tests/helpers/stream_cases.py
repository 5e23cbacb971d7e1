"""Tiny networks, clips and a streaming run that the tests of caches and of the fused step share."""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layout import FrameLayout
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.sampling.stream import StreamingNetwork

LIMIT = 2e-5
GRID = (2, 3)
NOISY = 600.0
TIMESTEP = 500.0  # a clean prediction at timestep 0 would be divided by the smallest sigma, and its rounding with it


def tiny_config(**changes: object) -> DiTConfig:
    values: dict[str, object] = {
        "dim": 48, "layers": 2, "heads": 2, "ffn_dim": 64, "in_channels": 8, "out_channels": 8,
        "patch": (1, 1, 1), "text_dim": None, "freq_dim": 32, "causal": True,
    }  # fmt: skip
    return DiTConfig(**{**values, **changes})  # type: ignore[arg-type]


def lively(network: DiT, seed: int = 0) -> DiT:
    """Random weights large enough that every path changes the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15, generator=generator)
    return network.eval()


class Clip:
    """A random clip of clean latents with its actions."""

    def __init__(self, batch: int, latents: int, seed: int = 1, grid: tuple[int, int] = GRID) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.latents = torch.randn(batch, 8, latents, *grid, generator=generator)
        self.buttons = (torch.rand(batch, 4 * latents, 6, generator=generator) > 0.5).float()
        self.sticks = torch.rand(batch, 4 * latents, 4, generator=generator) * 2 - 1
        self.noise = torch.randn(self.latents.shape, generator=generator)


def advance(
    network: StreamingNetwork,
    latents: Tensor,
    timestep: float,
    cache: StreamCache,
    windows: ActionWindows,
    text: list[TextKV] | None = None,
) -> Tensor:
    """One pass over a chunk that is planned for it alone."""
    plan = network.plan_chunk(latents, cache, windows)
    time = network.embed_time(torch.full((len(latents), 1), timestep), latents.shape[2])
    return network.step(latents, time, cache, plan, text_cache=text)


def stream(
    network: StreamingNetwork,
    clip: Clip,
    config: CacheConfig,
    poison: float | None = None,
    text: list[TextKV] | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """The clip through the cache, chunk by chunk: a noisy pass that must leave no trace, then the commit pass."""
    batch, _, count, height, width = clip.latents.shape
    cache = StreamCache(network.config, config, batch=batch, tokens=height * width)
    if poison is not None:
        for memory in cache.memories():
            for tensor in memory.tensors():
                tensor.fill_(poison)
    buttons = window_rows(clip.buttons, count, ActionConfig())
    sticks = window_rows(clip.sticks, count, ActionConfig())
    outputs, start = [], 0
    while start < count:
        part = slice(start, start + (1 if start == 0 else config.chunk))
        windows = ActionWindows(sticks[:, part], buttons[:, part], keep)
        plan = network.plan_chunk(clip.noise[:, :, part], cache, windows)
        length = clip.noise[:, :, part].shape[2]
        noisy, clean = (network.embed_time(torch.full((batch, 1), time), length) for time in (NOISY, TIMESTEP))
        network.step(clip.noise[:, :, part], noisy, cache, plan, text_cache=text)
        outputs.append(network.step(clip.latents[:, :, part], clean, cache, plan, text_cache=text))
        cache.commit()
        start = part.stop
    return torch.cat(outputs, 2)


def forced(
    network: StreamingNetwork, clip: Clip, config: CacheConfig, keep: Tensor | None, text: list[TextKV] | None
) -> Tensor:
    """Velocities of every chunk's noise, given the true latents before it; caches start as NaN."""
    batch, _, count, height, width = clip.latents.shape
    cache = StreamCache(network.config, config, batch=batch, tokens=height * width)
    for memory in cache.memories():
        for tensor in memory.tensors():
            tensor.fill_(torch.nan)
    sticks, buttons = (window_rows(rows, count, ActionConfig()) for rows in (clip.sticks, clip.buttons))
    made, before, start = [], slice(0, 1), 1
    while start < count:
        part = slice(start, start + config.chunk)
        noise, clean = clip.noise[:, :, part], clip.latents[:, :, before]
        old, new = (ActionWindows(sticks[:, span], buttons[:, span], keep) for span in (before, part))
        if config.joint:
            both = ActionWindows(*(torch.cat(pair, 1) for pair in zip(new[:2], old[:2], strict=True)), keep)
            latents, length = torch.cat([noise, clean], 2), clean.shape[2]
            times = torch.tensor([[NOISY] * noise.shape[2] + [0.0] * length]).expand(batch, -1)
            plan = network.plan_chunk(latents, cache, both, length)
            time = network.embed_time(times, latents.shape[2])
            made.append(network.step(latents, time, cache, plan, text_cache=text))
            cache.commit()
        else:
            advance(network, clean, 0.0, cache, old, text)
            cache.commit()
            made.append(advance(network, noise, NOISY, cache, new, text))
        before, start = part, part.stop
    return torch.cat(made, 2)


def two_stream(frames: int, *, window: int | None = None) -> FrameLayout:
    """Teacher forcing in one pass, as a mask to compare with: F context frames, then F noisy targets of the same.

    Context i sees context j <= i; target i sees context j < i and itself. Both within `window`.
    """
    index = torch.arange(frames)
    earlier = index[None, :] < index[:, None]
    if window is not None:
        earlier = earlier & (index[None, :] >= index[:, None] - window)
    same = torch.eye(frames, dtype=torch.bool)
    none = torch.zeros(frames, frames, dtype=torch.bool)
    visible = torch.cat([torch.cat([earlier | same, none], 1), torch.cat([earlier, same], 1)], 0)
    both = torch.cat([index, index])
    before = (index - 1).clamp(min=0)
    return FrameLayout(positions=both, action_index=both, visible=visible, previous=torch.cat([before, before]))
