"""How a world is streamed, and what a stream is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import DiTConfig
from scope_play.runtime.kv_cache import CacheConfig, StreamCache

MODES = ("cached", "window")
FEW_TOKENS = 32
"""In a chunk: twice as many cost a pass little more, since it waits for weights and launches rather than products."""


@dataclass(frozen=True)
class StreamConfig:
    """How a world is streamed. Sizes are in latent frames.

    steps, shift: the flow-matching schedule. chunk: latents denoised together. window: latents remembered. sink:
    first latents never forgotten. mode: see the module. guidance, action_guidance: scales, 1 is off. cache: how keys
    and values are kept, see CacheConfig.numbers.
    """

    steps: int = 2
    shift: float = 1.0
    chunk: int = 1
    window: int = 12
    sink: int = 0
    mode: str = "cached"
    guidance: float = 1.0
    action_guidance: float = 1.0
    cache: str = "full"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ScopeError(f"streaming mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        if self.mode == "window" and self.sink:
            raise ScopeError("streaming mode 'window' keeps no attention sink; set sink to 0")
        if self.steps < 1:
            raise ScopeError(f"steps is {self.steps}, but must be at least 1")
        if self.mode == "window" and self.cache != "full":
            raise ScopeError(f"streaming mode 'window' has no cache to keep as {self.cache!r}; use mode 'cached'")
        CacheConfig(self.window, self.chunk, self.sink, self.cache)

    def memory(self, causal: bool) -> CacheConfig:
        """The cache of such a stream."""
        return CacheConfig(self.window, self.room(causal), self.sink, self.cache)

    def room(self, causal: bool) -> int:
        """Latents of the longest chunk: a bidirectional network denoises the first one with the start image in it."""
        return self.chunk if causal else self.chunk + 1


def commits_beside(config: StreamConfig, causal: bool, tokens: int) -> bool:
    """Whether a chunk is committed in the first pass of the next one, rather than in a pass of its own.

    That saves a pass a chunk. But the next chunk's first pass takes as many tokens again, between the actions and the
    picture, while a commit of its own runs when the frames are out already. `scope-play bench stream` prints both.
    """
    room = config.room(causal)
    return room * tokens <= FEW_TOKENS and room <= config.window and config.cache == "full"


def latent_noise(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 noise of latent `index`: a function of (seed, index) alone, on any machine and device."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, index], dtype=np.uint64)))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


class StreamingNetwork(Protocol):
    """What a CachedStream asks of a network: DiT, and the forms of it that are made for streaming.

    What `plan_chunk` and `embed_time` return is each form's own, for its `step` alone.
    """

    @property
    def config(self) -> DiTConfig: ...

    def tokens_per_frame(self, height: int, width: int) -> int: ...

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows, clean: int = 0) -> Any: ...

    def embed_time(self, timesteps: Tensor, frames: int) -> Any: ...

    def step(
        self, latents: Tensor, time: Any, cache: StreamCache, plan: Any, *, text_cache: list[TextKV] | None = None
    ) -> Tensor: ...


class StreamState(Protocol):
    """A copy of a stream's memory."""

    @property
    def nbytes(self) -> int: ...


class Stream(Protocol):
    """One running world, or B of them in step, in latents."""

    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        """noise (B, C, n, h, w) and the windows of its n latents -> clean latents of that shape."""

    def commit(self) -> None:
        """Remember the latents last denoised."""

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None: ...

    def snapshot(self) -> StreamState: ...

    def restore(self, state: StreamState) -> None: ...
