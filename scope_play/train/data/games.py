"""Clips of latents straight from the simulator: what a world learns from needs no pictures.

A clip begins at some frame of a game as a session begins at its image: with that frame shown four times, at rest, and
with no button held before. What a still picture cannot tell must not decide what happens next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.train.data.ahead import Ahead
from scope_play.train.data.sources import frames_of
from scope_play.train.data.states import chunk_features
from scope_play.train.loop import seed_of

LATEST_START = 60
"""Frames into a game at which a clip may begin: by then everything that can be going on is."""
OPENINGS = 0.5
"""How often clips begin where their games do, as every session does: what is pressed there has not been held before."""


class Games:
    """Clips by step, in the latents of `codec`. The same (purpose, step) gives the same clips, whichever of `workers`
    processes plays them."""

    def __init__(self, codec: NanoCodec, seed: int = 0, workers: int = 0) -> None:
        self._codec = codec
        self._play = Ahead(partial(played, seed), workers)

    def prepare(self, requests: Callable[[int], tuple[int, int, str, int]], step: int) -> None:
        """Have clips ready that will be asked for: `requests` of this step and of some that follow."""
        for later in range(step, step + self._play.depth):
            self._play.prepare(*requests(later))

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> tuple[Tensor, Tensor]:
        """Latents (batch, C, latents, 1, 1) on the codec's device and rows (batch, 4 (latents - 1), 10)."""
        known, rows = self._play(batch, latents, purpose, step)
        features = torch.from_numpy(known).to(self._codec.feature_mean)
        clips = self._codec.from_features(features).transpose(1, 2)[..., None, None].contiguous()
        return clips, torch.from_numpy(rows)

    def moments(self, count: int) -> Tensor:
        """Latents (count, C), each of a game of its own."""
        return self.clips(count, 2, "moments", 0)[0][:, :, 1, 0, 0]


def played(seed: int, batch: int, latents: int, purpose: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (batch, latents, C) of clips and their rows (batch, 4 (latents - 1), 10)."""
    from scope_play.arena.behaviour import sample_states
    from scope_play.arena.config import ArenaConfig
    from scope_play.arena.simulate import Simulator

    seed = seed_of(seed, f"games/{purpose}", step) % 2**62
    draw = np.random.default_rng(seed)
    first = int(draw.integers(LATEST_START + 1)) if draw.random() >= OPENINGS else 0
    states, rows = sample_states(batch, first + frames_of(latents), seed)
    simulator = Simulator([0] * batch, ArenaConfig(), varied=False)
    simulator.state = states[first].copy()
    for hidden in ("vx", "vy", "north_held"):
        simulator.state[hidden] = 0
    begun = simulator.run(rows[first:-1])
    return chunk_features(begun), np.ascontiguousarray(rows[first:-1].swapaxes(0, 1))
