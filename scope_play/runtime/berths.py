"""Where games run on a GPU: recordings of passes, and the caches whose addresses they hold, kept from game to game.

Recordings are as good as their cache, so both stay together when a game ends, and the next game of the same shape has
nothing to record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from scope_play.runtime.cuda_graph import GraphedDiT, Recorder
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig, StreamCache

Key: TypeAlias = tuple[CacheConfig, int, int]
"""A cache's settings, its batch and its tokens a latent."""


@dataclass(eq=False)
class Berth:
    """A place for one stream at a time. `rehearsed`: shapes of the prompts under which every pass that a game can ask
    for is recorded."""

    key: Key
    network: GraphedDiT
    cache: StreamCache
    rehearsed: set[tuple[Any, ...]] = field(default_factory=set)


class Berths:
    """Those of one model. What idles is of one shape, the one asked for last: caches are large."""

    def __init__(self, network: FusedDiT, record: Recorder) -> None:
        self._network, self._record = network, record
        self._idle: list[Berth] = []
        self._last: Key | None = None

    def take(self, config: CacheConfig, *, batch: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Berth:
        """One that idles, or a new one."""
        key = config, batch, tokens
        if key != self._last:
            self._idle.clear()
            self._last = key
        if self._idle:
            return self._idle.pop()
        cache = StreamCache(self._network.config, config, batch=batch, tokens=tokens, device=device, dtype=dtype)
        return Berth(key, GraphedDiT(self._network, self._record), cache)

    def give_back(self, berth: Berth) -> None:
        berth.cache.clear()
        if berth.key == self._last:
            self._idle.append(berth)

    @property
    def idle_bytes(self) -> int:
        """Of caches that no game uses."""
        return sum(berth.cache.nbytes for berth in self._idle)
