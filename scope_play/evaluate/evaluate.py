"""The whole evaluation of one world, trial by trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from scope_play.actions import FPS
from scope_play.arena.config import ArenaConfig
from scope_play.evaluate import report, suite
from scope_play.evaluate.drift import drift
from scope_play.evaluate.probe import Probe, load_probe
from scope_play.evaluate.rollout import roll_out
from scope_play.evaluate.rows import Row
from scope_play.evaluate.trials import (
    FIRST_SEED,
    Condition,
    Trial,
    Trials,
    pitch_is_free,
    quiet,
    script,
    walks_freely,
    weapon_acts,
)
from scope_play.session.interfaces import WorldLike

PAIRS: dict[str, dict[str, float]] = {
    "fire": {"right_trigger": 1.0},
    "aim": {"left_trigger": 1.0},
    "jump": {"south": 1.0},
    "melee": {"right_thumb": 1.0},
    "reload": {"west": 1.0},
    "switch": {"north": 1.0},
    "forward": {"left_y": -1.0},
    "strafe": {"left_x": 1.0},
    "turn": {"right_x": 0.8},
    "look up": {"right_y": -0.6},
}
WEAPON_STATE = {"fire": "flash", "melee": "melee", "reload": "reload", "switch": "switch"}
"""Controls that must change nothing but the weapon, and the state that says they acted."""
TRIALS = ("mixed", "still", "movement", "pairs", "long")
"""What a world is put through, in this order."""


@dataclass(frozen=True)
class EvalConfig:
    """How much is played: `seeds` for mixed play, of which the first `long_seeds` for long play, `scripted` starts for
    every scripted trial, found from `first_seed` on, and seconds of each kind. `trials`: those of TRIALS that are
    played."""

    seeds: tuple[int, ...] = tuple(range(FIRST_SEED, FIRST_SEED + 32))
    first_seed: int = FIRST_SEED
    long_seeds: int = 8
    seconds: float = 60.0
    mixed_seconds: float = 9.2
    still_seconds: float = 10.0
    scripted: int = 12
    pair_seconds: float = 1.6
    trials: tuple[str, ...] = TRIALS
    arena: ArenaConfig = field(default_factory=ArenaConfig)


class Evaluation:
    """Plays a world through every trial. `rows` (T, 10) replace the mixed behaviours if given."""

    def __init__(
        self,
        world: WorldLike,
        config: EvalConfig | None = None,
        *,
        probe: Probe | None = None,
        rows: np.ndarray | None = None,
        out: Path | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.world, self.config, self.out = world, config or EvalConfig(), out
        self.probe = probe or load_probe()[0]
        self._rows, self._say = rows, say
        self._trials = Trials(world.spec.height, world.spec.width, self.config.arena, first_seed=self.config.first_seed)

    def run(self) -> list[Row]:
        """All measurements; sheets and videos go to `out` on the way."""
        if self.out is not None:
            (self.out / "pairs").mkdir(parents=True, exist_ok=True)
        trials = (self._mixed, self._still, self._movement, self._pairs, self.long)
        played = [trial for name, trial in zip(TRIALS, trials, strict=True) if name in self.config.trials]
        return [row for trial in played for row in trial()]

    def _play(self, name: str, trial: Trial) -> np.ndarray:
        self._say(f"{name}: {len(trial.seeds)} starts, {trial.rows.shape[1] / FPS:g} s each")
        return roll_out(self.world, trial)

    def _sheet(self, name: str, trial: Trial, made: np.ndarray, seconds: tuple[float, ...], clips: int = 6) -> None:
        if self.out is not None:
            report.write_sheet(self.out / f"{name}.png", trial, made, seconds, clips)

    def _frames(self, seconds: float) -> int:
        return -(-round(seconds * FPS) // 4) * 4

    def _mixed(self) -> list[Row]:
        trial = self._trials.mixed(self.config.seeds, self._frames(self.config.mixed_seconds), self._rows)
        made = self._play("mixed play", trial)
        self._sheet("mixed", trial, made, (0, 0.4, 1, 2, 3, 4, 6, 9))
        return [
            *suite.controls(self.probe, trial, made, self.config.arena),
            *suite.horizons(self.probe, trial, made),
        ]

    def _still(self) -> list[Row]:
        trial = self._trials.scripted(self.config.scripted, script(self._frames(self.config.still_seconds)), quiet)
        made = self._play("standing still", trial)
        self._sheet("still", trial, made, (0, 0.4, 1, 2, 4, 6, 8, 10))
        return suite.standing_still(made)

    def _scripted(self, name: str, rows: np.ndarray, shows: Condition) -> tuple[Trial, np.ndarray]:
        trial = self._trials.scripted(self.config.scripted, rows, shows)
        made = self._play(name, trial)
        times = tuple(np.linspace(0, rows.shape[0] / FPS, 8).tolist())
        self._sheet(name.replace(" ", "_"), trial, made, times, clips=3)
        return trial, made

    def _movement(self) -> list[Row]:
        arena, probe = self.config.arena, self.probe
        pitch_free = pitch_is_free(arena.rules.pitch_limit)
        turns = [self._scripted(f"turn {side}", script(40, right_x=0.8 * way), quiet) for side, way in _SIDES]
        tilts = [self._scripted(f"look {side}", script(16, right_y=0.5 * way), pitch_free) for side, way in _TILTS]
        walk = self._scripted("walk", script(32, left_y=-1.0), walks_freely(1.9))
        jump = self._scripted("jump", script(24, 4, 6, south=1.0), quiet)
        return [
            *suite.turning(probe, [trial for trial, _ in turns], [made for _, made in turns]),
            *suite.pitching(probe, [trial for trial, _ in tilts], [made for _, made in tilts], arena),
            *suite.walking(probe, *walk, arena),
            *suite.jumping(probe, *jump, arena),
        ]

    def _pairs(self) -> list[Row]:
        rows: list[Row] = []
        frames = self._frames(self.config.pair_seconds)
        for name, control in PAIRS.items():
            shows = weapon_acts(WEAPON_STATE[name]) if name in WEAPON_STATE else quiet
            if name == "forward":
                shows = walks_freely(1.2)
            acts, rests = script(frames, 4, 16 if name == "jump" else None, **control), script(frames)
            seeds = self._trials.starts(self.config.scripted, [acts], shows)
            pair = tuple(self._trials.play(seeds, np.repeat(part[None], len(seeds), 0)) for part in (rests, acts))
            made = tuple(self._play(f"{name}, {kind}", trial) for trial, kind in zip(pair, _KINDS, strict=True))
            if name in WEAPON_STATE:
                rows += suite.selectivity(name, (pair[0], pair[1]), (made[0], made[1]))
            if self.out is not None:
                path = self.out / "pairs" / name.replace(" ", "_")
                report.write_pair(path, (pair[0], pair[1]), (made[0], made[1]))
        return rows

    def long(self) -> list[Row]:
        """Drift alone, in the longest games."""
        seeds = self.config.seeds[: self.config.long_seeds]
        trial = self._trials.mixed(seeds, self._frames(self.config.seconds))
        made = self._play("long play", trial)
        self._sheet("long", trial, made, (0, 4, 8, 15, 22, 30, 45, 60))
        return drift(self.probe, trial, made)

    def setup(self) -> dict[str, object]:
        """What was measured, for the JSON beside the figures."""
        spec = self.world.spec
        chosen = {key: value for key, value in asdict(self.config).items() if key != "arena"}
        names = ("name", "precision", "device", "height", "width", "trained")
        return {
            "world": {name: getattr(spec, name) for name in names} | asdict(spec.stream),
            "identity": self.world.identity,
            "config": chosen,
        }


_SIDES = (("right", 1.0), ("left", -1.0))
_TILTS = (("down", 1.0), ("up", -1.0))
_KINDS = ("untouched", "with it")
