"""Any world through its public API: start images and action rows in, frames out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scope_play.evaluate.trials import Trial
from scope_play.session.interfaces import WorldLike

BATCH = 8


Progress = Callable[[int], None]
"""Called with the number of frames just made."""


def roll_out(world: WorldLike, trial: Trial, progress: Progress | None = None) -> np.ndarray:
    """The world's own frames for a trial, uint8 (B, T + 1, H, W, 3); frame 0 is the true first frame.

    Each session starts from the trial's first frame and with its seed; `start_many` is used where a world has it.
    """
    count, length = trial.rows.shape[:2]
    step = world.spec.frames_per_chunk
    padded = -(-length // step) * step
    rows = trial.rows[:, np.minimum(np.arange(padded), length - 1)]
    frames = np.empty((count, padded + 1, *trial.frames.shape[2:]), np.uint8)
    frames[:, 0] = trial.frames[:, 0]
    many = getattr(world, "start_many", None)
    size = BATCH if many is not None else 1
    for begin in range(0, count, size):
        part = slice(begin, min(begin + size, count))
        images, seeds = list(trial.frames[part, 0]), trial.seeds[part]
        with many(images, seeds) if many is not None else world.start(images[0], None, seeds[0]) as session:
            for t in range(0, padded, step):
                given = rows[part, t : t + step]
                made = session.step(given if many is not None else given[0]).frames
                frames[part, t + 1 : t + 1 + step] = made
                if progress is not None:
                    progress(step * len(seeds))
    return frames[:, : length + 1]
