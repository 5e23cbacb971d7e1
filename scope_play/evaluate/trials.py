"""What a world is put through: action rows, where they start, and what the arena says should happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scope_play.actions import COLUMNS, FRAMES_PER_LATENT, ROW_WIDTH
from scope_play.arena.behaviour import sample_rows
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.arena.simulate import ArenaState, Simulator
from scope_play.errors import ScopeError

FIRST_SEED = 900_000_000
"""Evaluation starts from seeds of its own; training draws its from hashes, the probe from 510 and 520 million."""
SEALED_SEED = 970_000_000
"""The first of those that no decision may be taken by: for the figures that are published, once."""

Condition = Callable[[ArenaState], np.ndarray]
"""States (T + 1, B) to bool (B,): whether the truth shows what the trial is about."""


@dataclass(frozen=True)
class Trial:
    """seeds (B), rows float32 (B, T, 10), and the truth: states (T + 1, B), frames uint8 (B, T + 1, H, W, 3), masks
    bool (B, T + 1, H, W) of weapon and HUD. Row i takes frame i to frame i + 1."""

    seeds: list[int]
    rows: np.ndarray
    states: ArenaState
    frames: np.ndarray
    masks: np.ndarray


class Trials:
    """Makes trials at one picture size; scripted ones from seeds of `first_seed` and up."""

    def __init__(
        self, height: int, width: int, config: ArenaConfig | None = None, *, first_seed: int = FIRST_SEED
    ) -> None:
        self.config, self.first_seed = config or ArenaConfig(), first_seed
        self._renderer = Renderer(self.config, height, width)

    def play(self, seeds: Sequence[int], rows: np.ndarray) -> Trial:
        """The truth of `rows` (B, T, 10) from the varied starts of `seeds`."""
        states = self.simulate(seeds, rows)
        drawn = [self._renderer.render(state) for state in states]
        frames, masks = (np.stack(part, 1) for part in zip(*drawn, strict=True))
        return Trial(list(seeds), rows.astype(np.float32), states, frames, masks)

    def simulate(self, seeds: Sequence[int], rows: np.ndarray) -> ArenaState:
        """States alone, (T + 1, B)."""
        return Simulator(list(seeds), self.config, varied=True).run(rows.swapaxes(0, 1))

    def mixed(self, seeds: Sequence[int], frames: int, rows: np.ndarray | None = None) -> Trial:
        """The behaviours of training for `frames` frames, or the given rows (T, 10) from every start."""
        if rows is None:
            return self.play(seeds, sample_rows(len(seeds), frames, list(seeds), self.config))
        return self.play(seeds, np.repeat(rows[None, :frames], len(seeds), 0))

    def scripted(self, count: int, script: np.ndarray, shows: Condition) -> Trial:
        """The same rows (T, 10) from the first `count` starts at which the truth `shows` what is asked about."""
        seeds = self.starts(count, [script], shows)
        return self.play(seeds, np.repeat(script[None], count, 0))

    def starts(self, count: int, scripts: Sequence[np.ndarray], shows: Condition) -> list[int]:
        """The first `count` seeds at which the condition holds for every script."""
        found: list[int] = []
        for begin in range(self.first_seed, self.first_seed + 64 * 256, 256):
            seeds = list(range(begin, begin + 256))
            holds = np.ones(256, bool)
            for script in scripts:
                holds &= shows(self.simulate(seeds, np.repeat(script[None], 256, 0)))
            found += [seed for seed, good in zip(seeds, holds, strict=True) if good]
            if len(found) >= count:
                return found[:count]
        raise ScopeError(f"evaluation: only {len(found)} of {count} starts in 16384 fit the script; ask for fewer.")


def script(frames: int, begin: int = 0, end: int | None = None, **controls: float) -> np.ndarray:
    """Rows (T, 10), T a multiple of a chunk: `controls` by column name hold from `begin` to `end`, all else rests."""
    rows = np.zeros((-(-frames // FRAMES_PER_LATENT) * FRAMES_PER_LATENT, ROW_WIDTH), np.float32)
    for name, value in controls.items():
        rows[begin:end, COLUMNS.index(name)] = value
    return rows


def quiet(states: ArenaState) -> np.ndarray:
    """No target moves by itself, and none is hit."""
    return (states["target"] == 0).all((0, 2)) & (states["hits"] == 0).all(0)


def pitch_is_free(limit: float) -> Condition:
    return lambda states: quiet(states) & (np.abs(states["pitch"]) < limit - 1e-6).all(0)


def walks_freely(distance: float) -> Condition:
    """The player gets at least `distance` cells away from the start."""

    def holds(states: ArenaState) -> np.ndarray:
        moved = np.hypot(states["x"][-1] - states["x"][0], states["y"][-1] - states["y"][0])
        return quiet(states) & (moved >= distance)

    return holds


def weapon_acts(field: str) -> Condition:
    """The weapon's state `field` leaves zero at some time, and nothing outside the weapon is touched."""
    return lambda states: quiet(states) & (states[field] != 0).any(0) & (states[field][0] == 0)
