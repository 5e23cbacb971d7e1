"""A DiT's own blocks against a cache: what the faster forms must equal, and what rollouts in training run."""

from __future__ import annotations

from torch import Tensor

from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import PassPlan, TextKV
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT, TimeEmbedding
from scope_play.runtime.kv_cache import StreamCache


class PlainDiT:
    """Streams like `FusedDiT`, block by block as they stand. Every chunk is committed by a pass of its own."""

    joint = False

    def __init__(self, network: DiT) -> None:
        self.network = network

    @property
    def config(self) -> DiTConfig:
        return self.network.config

    def tokens_per_frame(self, height: int, width: int) -> int:
        return self.network.tokens_per_frame(height, width)

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows, clean: int = 0) -> PassPlan:
        """What all passes over the next chunk share; `latents` (B, in_channels, n, H, W) gives its shape alone.

        Raises ValueError for `clean` latents, which only the fused forms commit with others.
        """
        if clean:
            raise ValueError(f"a plain DiT commits chunks on their own, not {clean} latents with the next")
        return self.network.plan(cache.layout(latents.shape[2]), self.network.grid(latents), windows)

    def embed_time(self, timesteps: Tensor, frames: int) -> TimeEmbedding:
        """Timesteps (B, 1 or n) in 0..1000 of n = `frames` latents."""
        return self.network.embed_time(timesteps, frames)

    def step(
        self,
        latents: Tensor,
        time: TimeEmbedding,
        cache: StreamCache,
        plan: PassPlan,
        *,
        text_cache: list[TextKV] | None = None,
    ) -> Tensor:
        """One pass over the chunk in flight, (B, in_channels, n, H, W), against the cache -> its velocity.

        The chunk's keys and values are left in the cache's tail: `cache.commit()` after a pass over the clean chunk
        keeps them.
        """
        cache.hold(latents)
        previous = cache.previous(latents) if self.config.from_previous else None
        return self.network.run(latents, previous, time, plan, text_cache, cache.layers)
