"""What a stream is, and what it asks of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import DiTConfig
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.sampling.stream_config import StreamConfig

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and with all there is to do."""

FEW_TOKENS = 32
"""In a chunk: twice as many cost a pass little more, since it waits for weights and launches rather than products."""


def cache_config(config: StreamConfig, causal: bool) -> CacheConfig:
    """The cache of such a stream."""
    return CacheConfig(config.window, config.room(causal), config.cache)


def commits_jointly(config: StreamConfig, causal: bool, tokens: int) -> bool:
    """Whether a chunk is best committed in the first pass of the next one, rather than in a pass of its own.

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
    """What a CachedStream asks of a network: one of the forms in `scope_play.runtime`.

    What `plan_chunk` and `embed_time` return is each form's own, for its `step` alone. `joint`: whether a pass can
    commit the chunk before.
    """

    @property
    def config(self) -> DiTConfig: ...

    @property
    def joint(self) -> bool: ...

    def tokens_per_frame(self, height: int, width: int) -> int: ...

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows, clean: int = 0) -> Any: ...

    def embed_time(self, timesteps: Tensor, frames: int) -> Any: ...

    def step(
        self, latents: Tensor, time: Any, cache: StreamCache, plan: Any, *, text_cache: list[TextKV] | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class CleanChunk:
    """A denoised chunk (B, C, n, h, w) and its windows; the plan of its passes, if the cache's tail is still theirs."""

    latents: Tensor
    windows: ActionWindows
    plan: Any = None


class Past(NamedTuple):
    """What a stream remembers, oldest first, and the position of the latent that comes next."""

    chunks: tuple[CleanChunk, ...]
    position: int


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

    def set_text(
        self, text: list[TextKV] | None, negative: list[TextKV] | None, progress: Progress | None = None
    ) -> None:
        """From the next chunk on. `progress`: see `rehearsal`; where nothing is recorded it is not called."""

    @property
    def past(self) -> Past: ...

    def recall(self, past: Past) -> None:
        """Go on from what another stream remembers, under this one's text; called before anything else."""

    @property
    def nbytes(self) -> int:
        """Bytes of a snapshot."""

    def snapshot(self, *, on_host: bool = False) -> StreamState:
        """A copy of the stream's memory, in host memory if that is asked for."""

    def restore(self, state: StreamState) -> None: ...

    @property
    def can_set_aside(self) -> bool:
        """Whether a chunk in flight can be put aside and denoised again, bit for bit."""

    def set_aside(self) -> Any:
        """The chunk in flight, which then is not in flight any more: a snapshot can be taken of what is before it."""

    def take_up(self, aside: Any) -> None:
        """What was set aside is in flight again, if nothing else ran since."""

    def close(self) -> None:
        """It will not be used any more."""
