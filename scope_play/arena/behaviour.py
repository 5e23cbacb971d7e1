"""How people play, as action rows: a mixture of standing, looking, walking, fighting and trying out buttons.

A player goes through episodes of 14 to 54 frames. Each episode draws one behaviour with these shares:

    still 25 %     nothing moves
    look 35 %      turning, half of the time pitching too
    walk 12 %      forward or back, now and then diagonally
    roam 14 %      walking while turning
    fight 14 %     facing the nearest standing target and shooting it

and, on top, at most one button drill: fire 20 %, aim 14 %, both 6 %, jump 9 %, melee 8 %, reload 9 %, switch 8 %,
none 26 % (a fight always shoots, and aims half of the time). Sticks follow their goals smoothly, as thumbs do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from scope_play.actions import ROW_WIDTH
from scope_play.arena.arena import Arena, spread_seeds
from scope_play.arena.config import ArenaConfig, as_record
from scope_play.arena.geometry import Record
from scope_play.arena.simulate import (
    AIM,
    FIRE,
    JUMP,
    LEFT_X,
    LEFT_Y,
    MELEE,
    RELOAD,
    RIGHT_X,
    RIGHT_Y,
    SWITCH,
    ArenaState,
    Simulator,
)

STILL, LOOK, WALK, ROAM, FIGHT = range(5)
SHARES = (0.25, 0.35, 0.12, 0.14, 0.14)
DRILLS: tuple[tuple[int, ...], ...] = ((), (FIRE,), (AIM,), (FIRE, AIM), (JUMP,), (MELEE,), (RELOAD,), (SWITCH,))
DRILL_SHARES = (0.26, 0.20, 0.14, 0.06, 0.09, 0.08, 0.09, 0.08)
EPISODE = (14, 54)
_RESPONSE = 0.35  # share of the gap to its goal that a thumb closes in a frame


@dataclass(frozen=True)
class Clip:
    """frames uint8 (B, T, H, W, 3); rows float32 (B, T, 10), row i takes frame i to frame i + 1; masks bool
    (B, T, H, W) where weapon and HUD are drawn, or None."""

    frames: np.ndarray
    rows: np.ndarray
    masks: np.ndarray | None = None


def _plan(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One player's goals for `frames` frames: wanted rows float64 (frames, 10), and the behaviour int64 (frames,)."""
    rows = np.zeros((frames, ROW_WIDTH))
    kinds = np.zeros(frames, np.int64)
    begin = -int(rng.integers(0, EPISODE[0]))
    while begin < frames:
        length = int(rng.integers(EPISODE[0], EPISODE[1] + 1))
        kind = int(rng.choice(5, p=SHARES))
        drill = DRILLS[int(rng.choice(len(DRILLS), p=DRILL_SHARES))]
        episode = np.tile(_goals(rng, kind), (length, 1))
        if kind == FIGHT:
            drill = (FIRE, AIM) if rng.random() < 0.5 else (FIRE,)
        for button in drill:
            _press(rng, episode[:, button], button)
        first, last = max(begin, 0), min(begin + length, frames)
        rows[first:last], kinds[first:last] = episode[first - begin : last - begin], kind
        begin += length
    return rows, kinds


def _goals(rng: np.random.Generator, kind: int) -> np.ndarray:
    goals = np.zeros(ROW_WIDTH)
    side = rng.choice((-1.0, 1.0))
    if kind in (LOOK, ROAM):
        goals[RIGHT_X] = side * rng.uniform(0.25, 1.0)
        if rng.random() < 0.5:
            goals[RIGHT_Y] = rng.uniform(-0.7, 0.7)
            if rng.random() < 0.3:
                goals[RIGHT_X] = 0.0
    if kind in (WALK, ROAM):
        heading = rng.choice((0.0, 0.0, 0.0, math.pi, math.pi / 2, -math.pi / 2)) + rng.normal(0.0, 0.25)
        push = rng.uniform(0.45, 1.0)
        goals[LEFT_X], goals[LEFT_Y] = push * math.sin(heading), -push * math.cos(heading)
    if kind == FIGHT:
        goals[LEFT_X] = side * rng.uniform(0.0, 0.6) * (rng.random() < 0.5)
    return goals


def _press(rng: np.random.Generator, column: np.ndarray, button: int) -> None:
    """Hold or tap a button within an episode."""
    frames = len(column)
    if button == AIM or rng.random() < 0.5:
        late = int(rng.integers(0, max(1, frames // 3)))
        column[late:] = 1.0
        return
    taps = 1 if button in (RELOAD, SWITCH) else int(rng.integers(1, 4))
    for start in rng.integers(0, max(1, frames - 3), taps):
        column[start : start + int(rng.integers(1, 8))] = 1.0


@njit(cache=True, nogil=True)
def _thumbs(
    states: np.ndarray,
    goals: np.ndarray,
    kinds: np.ndarray,
    places: np.ndarray,
    size: float,
    rules: Record,
    hand: np.ndarray,
) -> None:
    """Move `hand` (B, 10), the rows given last, towards this frame's goals; fighters steer by what they see."""
    for i in range(states.shape[0]):
        s, row, goal = states[i], hand[i], goals[i]
        want_x, want_y = goal[RIGHT_X], goal[RIGHT_Y]
        if kinds[i] == FIGHT:
            near = 1e9
            for k in range(places.shape[0]):
                ox, oy = places[k, 0] - s.x, places[k, 1] - s.y
                distance = math.sqrt(ox * ox + oy * oy)
                if s.target[k] > 0.0 or distance >= near:
                    continue
                near = distance
                off = (math.atan2(oy, ox) - s.yaw + math.pi) % (2.0 * math.pi) - math.pi
                drop = math.atan2(0.7 * rules.target_height - rules.eye_height - s.z, max(distance, 0.3)) - s.pitch
                want_x = min(max(off * 5.0, -1.0), 1.0)
                want_y = min(max(-drop * 6.0, -1.0), 1.0)
        elif abs(s.pitch) > 0.6 * rules.pitch_limit and want_y * s.pitch < 0.0:  # nobody stares at the sky for long
            want_y = 0.4 if s.pitch > 0.0 else -0.4
        if (kinds[i] == WALK or kinds[i] == ROAM) and goal[LEFT_Y] < 0.0:  # turn away from a wall ahead
            ahead_x, ahead_y = s.x + 1.1 * math.cos(s.yaw), s.y + 1.1 * math.sin(s.yaw)
            if min(min(ahead_x, ahead_y), size - max(ahead_x, ahead_y)) < 0.0:
                home = math.atan2(0.5 * size - s.y, 0.5 * size - s.x) - s.yaw
                want_x = 0.85 if (home + math.pi) % (2.0 * math.pi) > math.pi else -0.85
        for axis, want in ((LEFT_X, goal[LEFT_X]), (LEFT_Y, goal[LEFT_Y]), (RIGHT_X, want_x), (RIGHT_Y, want_y)):
            row[axis] += (want - row[axis]) * _RESPONSE
            if abs(row[axis]) < 0.02 and abs(want) < 0.02:
                row[axis] = 0.0
        for button in range(LEFT_X):
            row[button] = goal[button]


class Players:
    """One player per environment; the same player in every batch. Plans are drawn for at most `frames` frames."""

    def __init__(self, seeds: Sequence[int], frames: int, config: ArenaConfig) -> None:
        plans = [_plan(np.random.default_rng((seed, 1)), frames) for seed in seeds]
        self._goals = np.stack([rows for rows, _ in plans])
        self._kinds = np.stack([kinds for _, kinds in plans])
        self._places = np.array(config.map.targets, np.float64).reshape(-1, 2)
        self._size = float(config.map.size)
        self._rules = as_record(config.rules)
        self._hand = np.zeros((len(plans), ROW_WIDTH))

    def rows(self, state: ArenaState, frame: int) -> np.ndarray:
        """What the players do at `frame`, seeing `state`: float32 (B, 10)."""
        goals, kinds = np.ascontiguousarray(self._goals[:, frame]), np.ascontiguousarray(self._kinds[:, frame])
        _thumbs(state, goals, kinds, self._places, self._size, self._rules, self._hand)
        return self._hand.astype(np.float32)


def sample_states(
    batch: int, frames: int, seed: int | Sequence[int], config: ArenaConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Play without pictures: states, structured (frames, B), before each row acts; rows float32 (frames, B, 10)."""
    config = config or ArenaConfig()
    seeds = spread_seeds(batch, seed)
    simulator = Simulator(seeds, config, varied=True)
    players = Players(seeds, frames, config)
    states = np.empty((frames, batch), simulator.state.dtype)
    rows = np.empty((frames, batch, ROW_WIDTH), np.float32)
    for frame in range(frames):
        states[frame] = simulator.state
        rows[frame] = players.rows(simulator.state, frame)
        simulator.step(rows[frame])
    return states, rows


def sample_rows(batch: int, frames: int, seed: int | Sequence[int], config: ArenaConfig | None = None) -> np.ndarray:
    """Rows float32 (B, frames, 10) of players in `Arena(batch, seed)`."""
    return np.ascontiguousarray(sample_states(batch, frames, seed, config)[1].swapaxes(0, 1))


def sample_clip(
    batch: int,
    frames: int,
    seed: int | Sequence[int],
    config: ArenaConfig | None = None,
    height: int = 96,
    width: int = 160,
    *,
    masks: bool = False,
    threads: int | None = None,
) -> Clip:
    """Play and draw `frames` frames in `batch` environments. Environment i depends on its own seed only."""
    config = config or ArenaConfig()
    states, rows = sample_states(batch, frames, seed, config)
    arena = Arena(batch, seed, config, height, width, threads=threads)
    pictures = np.empty((batch, frames, height, width, 3), np.uint8)
    touched = np.empty((batch, frames, height, width), np.bool_) if masks else None
    for frame in range(frames):
        arena.state = states[frame]
        picture, mask = arena.render_with_mask()
        pictures[:, frame] = picture
        if touched is not None:
            touched[:, frame] = mask
    return Clip(pictures, np.ascontiguousarray(rows.swapaxes(0, 1)), touched)
