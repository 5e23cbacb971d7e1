"""A stand-in for the arena: smooth moving colours, steered by the right stick, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from scope_play.train.data.sources import Clips, Moments, frames_of
from scope_play.train.loop import seed_of


@dataclass(frozen=True)
class Waves:
    height: int = 32
    width: int = 32
    seed: int = 0

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> Clips:
        draw = np.random.default_rng(seed_of(self.seed, purpose, step))
        frames = frames_of(latents)
        rows = np.zeros((batch, frames, 10), np.float32)
        rows[..., 8] = draw.uniform(-1, 1, (batch, 1))
        rows[..., 0] = draw.random((batch, frames)) < 0.2
        phase = draw.uniform(0, 6.28, (batch, 1)) + 0.3 * np.cumsum(rows[..., 8], 1)
        across = np.arange(self.width) * (6.28 / self.width)
        waves = [np.sin(k * across + phase[..., None]) for k in (1, 2, 3)]
        line = np.stack(waves, -1)[:, :, None]
        pixels = np.broadcast_to((line + 1) * 127, (batch, frames, self.height, self.width, 3))
        return Clips(pixels.astype(np.uint8), rows)

    def moments(self, count: int, purpose: str, step: int) -> Moments:
        clips = self.clips(count, 2, purpose, step)
        court = clips.frames[:, 4].copy()
        # The phase, read off the first column: sin and cos of it stand where a heading would.
        sine = court[:, 0, 0, 0] / 127.0 - 1
        quarter = np.roll(court[:, 0, :, 0], -self.width // 4, -1)[..., 0] / 127.0 - 1
        empty = np.zeros_like(sine)
        features = np.stack([empty, empty, empty, sine, quarter, empty, empty, clips.rows[:, 3, 0]], -1)
        frames = court.copy()
        frames[:, -8:, :8] = np.where(clips.rows[:, 3, 0, None, None, None] > 0, 250, 5)
        return Moments(frames, court, features.astype(np.float32))

    def known(self, games: int, purpose: str, step: int) -> np.ndarray:
        return self.moments(games, purpose, step).features


@pytest.fixture
def waves() -> Waves:
    return Waves()
