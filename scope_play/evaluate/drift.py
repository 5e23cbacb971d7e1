"""Whether a world stays what it is: the statistics of its pictures, and of how they change, against true play's.

A world that stands still has pictures like any other; what it has not is change. So both are described: each channel of
the probe's features, averaged over a picture, and by how much that differs from the picture a fifth of a second before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from scope_play.actions import FPS, FRAMES_PER_LATENT
from scope_play.evaluate.probe import Probe
from scope_play.evaluate.rows import Row, at_most, measure
from scope_play.evaluate.trials import Trial

DRIFT_AT = (4.0, 15.0, 30.0, 60.0)
SPAN = 2.0  # seconds before each of these that are described
MOST = 1.5  # times as far from the whole of true play as true play's own seconds are


@dataclass(frozen=True)
class Described:
    """Of B games at T times: channels of pictures (B, T, D), and their changes (B, T - 1, D)."""

    pictures: np.ndarray
    changes: np.ndarray

    def statistics(self, games: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread over games and times of every channel, (2 D) each."""
        parts = [part[games].reshape(-1, part.shape[-1]) for part in (self.pictures, self.changes)]
        return np.concatenate([p.mean(0) for p in parts]), np.concatenate([p.std(0) for p in parts])


def drift(probe: Probe, trial: Trial, made: np.ndarray) -> list[Row]:
    """How far pictures and their changes are from true play's, at several times, as a multiple of how far true play in
    the same games and seconds is; the truth's own figure is 1. Infinity where the truth is at no distance."""
    games = len(made)
    mean, spread = describe(probe, trial.frames[:, ::FRAMES_PER_LATENT]).statistics(np.arange(games))

    def distance(described: Described, drawn: np.ndarray) -> float:
        """Frechet's, of Gaussians with independent entries, each in units of true play's spread, a channel."""
        means, spreads = described.statistics(drawn)
        scale = np.maximum(spread, 1e-6)
        return float((np.square((means - mean) / scale) + np.square((spreads - spread) / scale)).mean())

    def ratio(world: Described, truth: Described, drawn: np.ndarray) -> float:
        return distance(world, drawn) / max(distance(truth, drawn), 1e-9)

    rows: list[Row] = []
    for seconds in DRIFT_AT:
        end = round(seconds * FPS)
        if end >= made.shape[1]:
            continue
        part = slice(end - round(SPAN * FPS), end + 1, FRAMES_PER_LATENT)
        still = np.repeat(trial.frames[:, :1], len(range(*part.indices(end + 1))), 1)
        world, truth, first = (describe(probe, frames) for frames in (made[:, part], trial.frames[:, part], still))
        row = measure(
            "drift, multiple of true play's",
            f"at {seconds:g} s",
            games,
            partial(ratio, world, truth),
            1.0,
            partial(ratio, first, truth),
        )
        rows.append(at_most(row, MOST))
    return rows


def describe(probe: Probe, frames: np.ndarray) -> Described:
    """Of uint8 (B, T, H, W, 3): every stage's channels, averaged over each picture, and how much they change."""
    features = probe.picture_features(frames.reshape(-1, *frames.shape[2:]))
    pictures = np.concatenate([stage.mean((2, 3)).numpy() for stage in features], 1)
    pictures = pictures.reshape(*frames.shape[:2], -1)
    return Described(pictures, np.abs(np.diff(pictures, axis=1)))
