"""The rules: one action row takes every environment one frame on. Scalar code per environment, compiled, so that an
environment behaves the same alone and in any batch."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from scope_play.actions import ROW_WIDTH
from scope_play.arena.config import CANNON, MAX_TARGETS, RIFLE, WEAPONS, ArenaConfig, as_record
from scope_play.arena.geometry import Record, ray_solid, target_stand
from scope_play.arena.map import AXIS_X, AXIS_Y, BOTTOM, DRUM, HALF_X, HALF_Y, KIND, SOLID_WIDTH, TOP, Solid, X, Y
from scope_play.errors import ScopeError

FIRE, AIM, JUMP, MELEE, RELOAD, SWITCH, LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y = range(ROW_WIDTH)

# Timers count frames down to 0. `target` is 0 for a standing target, else the frames until it stands again.
STATE = np.dtype(
    [(name, np.float64) for name in ("x", "y", "z", "yaw", "pitch", "vx", "vy", "vz")]
    + [(name, np.float64) for name in ("aim", "kick", "stride", "step_phase", "sway_x", "sway_y")]
    + [(name, np.float64) for name in ("cooldown", "flash", "spark", "reload", "melee", "switch", "land")]
    + [("weapon", np.int64), ("north_held", np.int64), ("hits", np.int64)]
    + [("ammo", np.float64, (WEAPONS,)), ("target", np.float64, (MAX_TARGETS,))]
)
ArenaState = np.ndarray
"""A structured array (B,) of `STATE`: `state["yaw"]` is (B,), `state.copy()` is a snapshot."""


@njit(cache=True)
def _towards(value: float, goal: float, step: float) -> float:
    return min(goal, value + step) if value < goal else max(goal, value - step)


@njit(cache=True)
def _push_out(x: float, y: float, solid: np.ndarray, radius: float) -> tuple[float, float]:
    """The nearest place where a body of `radius` does not touch the solid."""
    ox = x - solid[X]
    oy = y - solid[Y]
    if solid[KIND] == DRUM:
        reach = solid[HALF_X] + radius
        distance = math.sqrt(ox * ox + oy * oy)
        if distance >= reach:
            return x, y
        if distance < 1e-9:
            return x + reach, y
        return solid[X] + ox / distance * reach, solid[Y] + oy / distance * reach
    ax, ay = solid[AXIS_X], solid[AXIS_Y]
    px = ox * ax + oy * ay
    py = oy * ax - ox * ay
    cx = min(max(px, -solid[HALF_X]), solid[HALF_X])
    cy = min(max(py, -solid[HALF_Y]), solid[HALF_Y])
    gap = math.sqrt((px - cx) ** 2 + (py - cy) ** 2)
    if gap >= radius:
        return x, y
    if gap > 1e-9:
        px = cx + (px - cx) / gap * radius
        py = cy + (py - cy) / gap * radius
    elif solid[HALF_X] - abs(px) < solid[HALF_Y] - abs(py):
        px = math.copysign(solid[HALF_X] + radius, px)
    else:
        py = math.copysign(solid[HALF_Y] + radius, py)
    return solid[X] + px * ax - py * ay, solid[Y] + px * ay + py * ax


@njit(cache=True)
def _walk(s: Record, row: np.ndarray, solids: np.ndarray, targets: int, size: float, rules: Record) -> None:
    slow = 1.0 + (rules.aim_walk - 1.0) * s.aim
    length = math.sqrt(row[LEFT_X] ** 2 + row[LEFT_Y] ** 2)
    speed = rules.walk_speed * slow / max(1.0, length)
    forward, right = -row[LEFT_Y] * speed, row[LEFT_X] * speed
    fx, fy = math.cos(s.yaw), math.sin(s.yaw)
    s.vx += (fx * forward - fy * right - s.vx) * rules.walk_response
    s.vy += (fy * forward + fx * right - s.vy) * rules.walk_response
    x, y = s.x + s.vx, s.y + s.vy
    first = solids.shape[0] - targets
    for k in range(solids.shape[0]):
        if k < first or target_stand(s.target[k - first], rules) > 0.3:
            x, y = _push_out(x, y, solids[k], rules.body_radius)
    s.x = min(max(x, rules.body_radius), size - rules.body_radius)
    s.y = min(max(y, rules.body_radius), size - rules.body_radius)
    stride = min(1.0, math.sqrt(s.vx * s.vx + s.vy * s.vy) / rules.walk_speed) if s.z <= 0.0 else 0.0
    s.stride += (stride - s.stride) * 0.3
    s.step_phase = (s.step_phase + 0.55 * stride) % (2.0 * math.pi)


@njit(cache=True)
def _look(s: Record, row: np.ndarray, rules: Record) -> None:
    slow = 1.0 + (rules.aim_turn - 1.0) * s.aim
    s.yaw = (s.yaw + row[RIGHT_X] * rules.turn_rate * slow) % (2.0 * math.pi)
    pitch = s.pitch - row[RIGHT_Y] * rules.pitch_rate * slow
    s.pitch = min(max(pitch, -rules.pitch_limit), rules.pitch_limit)
    s.sway_x += (row[RIGHT_X] - s.sway_x) * 0.35
    s.sway_y += (row[RIGHT_Y] - s.sway_y) * 0.35


@njit(cache=True)
def _leap(s: Record, row: np.ndarray, rules: Record) -> None:
    lift = 4.0 * rules.jump_height / rules.jump_frames
    gravity = 2.0 * lift / rules.jump_frames
    s.land = max(0.0, s.land - 1.0)
    if s.z <= 0.0 and s.vz == 0.0:
        if row[JUMP] < 0.5:
            return
        s.vz = lift
    s.z += s.vz - 0.5 * gravity
    s.vz -= gravity
    if s.z <= 1e-9 and s.vz < 0.0:
        s.z = 0.0
        s.vz = 0.0
        s.land = rules.land_frames


@njit(cache=True)
def _strike(
    s: Record, reach: float, solids: np.ndarray, targets: int, court: tuple[float, float], rules: Record
) -> float:
    """What the centre ray meets within `reach`: fells a target; returns the distance of the hit, 0 for the open sky."""
    dx, dy, slope = math.cos(s.yaw), math.sin(s.yaw), math.tan(s.pitch)
    size, wall_height = court
    eye = rules.eye_height + s.z
    first = solids.shape[0] - targets
    near = reach
    struck = -1
    met = False
    for k in range(solids.shape[0]):
        enter, leave = ray_solid(solids[k], s.x, s.y, dx, dy)
        if enter > leave or enter <= 0.0 or enter >= near:
            continue
        height = eye + slope * enter
        stand = 1.0 if k < first else target_stand(s.target[k - first], rules)
        if solids[k, BOTTOM] <= height <= solids[k, TOP] * stand:
            near = enter
            struck = k - first
            met = True
    dx = dx if abs(dx) > 1e-9 else 1e-9
    dy = dy if abs(dy) > 1e-9 else 1e-9
    ex = ((size if dx > 0.0 else 0.0) - s.x) / dx
    ey = ((size if dy > 0.0 else 0.0) - s.y) / dy
    wall = min(ex, ey)
    if slope < 0.0:
        wall = min(wall, -eye / slope)
    if wall < near and eye + slope * wall <= wall_height:
        near = wall
        struck = -1
        met = True
    if struck >= 0 and s.target[struck] <= 0.0:
        s.target[struck] = rules.target_fall + rules.target_down + rules.target_rise
        s.hits += 1
    return near if met else 0.0


@njit(cache=True)
def _fight(
    s: Record, row: np.ndarray, solids: np.ndarray, targets: int, court: tuple[float, float], rules: Record
) -> None:
    aiming = row[AIM] >= 0.5 and s.reload <= 0.0 and s.melee <= 0.0 and s.switch <= 0.0
    s.aim = _towards(s.aim, 1.0 if aiming else 0.0, 1.0 / rules.aim_frames)
    s.kick *= rules.kick_decay
    if s.kick < 1e-3:
        s.kick = 0.0
    s.flash = max(0.0, s.flash - 1.0)
    if s.flash == 0.0:
        s.spark = 0.0
    s.cooldown = max(0.0, s.cooldown - 1.0)
    s.melee = max(0.0, s.melee - 1.0)
    for k in range(targets):
        s.target[k] = max(0.0, s.target[k] - 1.0)

    pressed = row[SWITCH] >= 0.5
    if pressed and s.north_held == 0 and s.switch <= 0.0 and s.melee <= 0.0:
        s.switch = rules.switch_frames
        s.reload = 0.0
    elif s.switch > 0.0:
        s.switch -= 1.0
        if s.switch == rules.switch_frames // 2:  # out of sight: the other one comes up
            s.weapon = CANNON if s.weapon == RIFLE else RIFLE
    s.north_held = 1 if pressed else 0

    magazine = rules.magazine[s.weapon]
    if s.reload > 0.0:
        s.reload -= 1.0
        if s.reload == 0.0:
            s.ammo[s.weapon] = magazine
    if s.switch > 0.0:
        return
    if row[MELEE] >= 0.5 and s.melee <= 0.0:
        s.melee = rules.melee_frames
        s.reload = 0.0
        _strike(s, rules.melee_reach, solids, targets, court, rules)
    if s.melee > 0.0:
        return
    if row[RELOAD] >= 0.5 and s.reload <= 0.0 and s.ammo[s.weapon] < magazine:
        s.reload = rules.reload_frames
    if row[FIRE] >= 0.5 and s.reload <= 0.0 and s.cooldown <= 0.0 and s.ammo[s.weapon] > 0.0:
        s.ammo[s.weapon] -= 1.0
        s.cooldown = rules.fire_frames[s.weapon]
        s.kick = rules.kick[s.weapon]
        s.flash = rules.flash_frames
        s.spark = _strike(s, 1e3, solids, targets, court, rules)


@njit(cache=True, nogil=True)
def _step(
    states: np.ndarray, rows: np.ndarray, solids: np.ndarray, targets: int, court: tuple[float, float], rules: Record
) -> None:
    for i in range(states.shape[0]):
        s = states[i]
        _look(s, rows[i], rules)
        _walk(s, rows[i], solids, targets, court[0], rules)
        _leap(s, rows[i], rules)
        _fight(s, rows[i], solids, targets, court, rules)


@njit(cache=True)
def _is_free(x: float, y: float, solids: np.ndarray, radius: float) -> bool:
    for k in range(solids.shape[0]):
        px, py = _push_out(x, y, solids[k], radius)
        if px != x or py != y:
            return False
    return True


def target_solids(config: ArenaConfig) -> np.ndarray:
    """The standing targets as float32 (targets, SOLID_WIDTH)."""
    rules = config.rules
    half = (rules.target_radius, rules.target_radius)
    solids = [
        Solid(DRUM, x, y, half, rules.target_height, (0.17, 0.13, 0.34), cap=(1.0, 0.42, 0.06), cap_from=0.42)
        for x, y in config.map.targets
    ]
    return np.array([solid.as_row() for solid in solids], np.float32).reshape(-1, SOLID_WIDTH)


class Simulator:
    """The court without pictures: `state` is public and may be replaced by a copy taken earlier.

    Environment i starts from the seed `seed + i` (or `seed[i]`) and is the same in every batch.
    """

    def __init__(self, seeds: list[int], config: ArenaConfig, varied: bool) -> None:
        if len(config.map.targets) > MAX_TARGETS:
            raise ScopeError(
                f"map: {len(config.map.targets)} targets, at most {MAX_TARGETS} are possible; remove some."
            )
        self.config = config
        self.rules = as_record(config.rules)
        obstacles = [solid.as_row() for solid in config.map.obstacles()]
        self.targets = len(config.map.targets)
        self.solids = np.concatenate([np.array(obstacles, np.float32).reshape(-1, SOLID_WIDTH), target_solids(config)])
        self.state: ArenaState = np.zeros(len(seeds), STATE)
        for i, seed in enumerate(seeds):
            self._place(self.state[i : i + 1], np.random.default_rng(seed), varied)

    def _place(self, state: ArenaState, rng: np.random.Generator, varied: bool) -> None:
        rules, size = self.config.rules, self.config.map.size
        while True:
            x, y = rng.uniform(rules.body_radius, size - rules.body_radius, 2)
            if _is_free(x, y, self.solids, rules.body_radius + 0.15):
                break
        state["x"], state["y"], state["yaw"] = x, y, rng.uniform(0.0, 2.0 * math.pi)
        state["ammo"] = rules.magazine
        if not varied:
            return
        if rng.random() < 0.6:  # more often than not one looks into the court
            home = math.atan2(size / 2 - y, size / 2 - x)
            state["yaw"] = (home + rng.normal(0.0, 0.7)) % (2.0 * math.pi)
        state["pitch"] = rng.triangular(-rules.pitch_limit, 0.0, rules.pitch_limit) * 0.6
        state["weapon"] = rng.integers(WEAPONS)
        state["step_phase"] = rng.uniform(0.0, 2.0 * math.pi)
        for weapon in range(WEAPONS):
            if rng.random() < 0.7:
                state["ammo"][:, weapon] = rng.integers(0, int(rules.magazine[weapon]) + 1)
        span = rules.target_fall + rules.target_down + rules.target_rise
        for k in range(self.targets):
            if rng.random() < 0.15:
                state["target"][:, k] = rng.integers(1, int(span))

    def step(self, rows: np.ndarray) -> None:
        """Take every environment one frame on. `rows`: (B, 10), as in `scope_play.actions`."""
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.shape != (len(self.state), ROW_WIDTH):
            raise ScopeError(f"arena: rows have shape {rows.shape}, need {(len(self.state), ROW_WIDTH)}: one row each.")
        court = (self.config.map.size, self.config.map.wall_height)
        _step(self.state, rows, self.solids, self.targets, court, self.rules)

    def run(self, rows: np.ndarray) -> ArenaState:
        """States (T + 1, B) from the present one on, before and after each of `rows` (T, B, 10)."""
        states = [self.state.copy()]
        for row in rows:
            self.step(row)
            states.append(self.state.copy())
        return np.stack(states)
