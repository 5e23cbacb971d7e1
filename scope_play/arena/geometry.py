"""What rules and renderer share. Compiled code that others inline: numba's cache does not see a change here, so after
editing this file remove `__pycache__`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from scope_play.arena.map import AXIS_X, AXIS_Y, DRUM, HALF_X, HALF_Y, KIND, X, Y

Record = Any  # a numpy record: compiled code reads and writes its fields by name


@njit(cache=True)
def ray_solid(solid: np.ndarray, x: float, y: float, dx: float, dy: float) -> tuple[float, float]:
    """Where the ground ray (x, y) + t (dx, dy) enters and leaves a solid's footprint; (1, 0) for a miss."""
    ox = x - solid[X]
    oy = y - solid[Y]
    if solid[KIND] == DRUM:
        a = dx * dx + dy * dy
        b = ox * dx + oy * dy
        c = ox * ox + oy * oy - solid[HALF_X] * solid[HALF_X]
        root = b * b - a * c
        if root <= 0.0:
            return 1.0, 0.0
        root = math.sqrt(root)
        return (-b - root) / a, (-b + root) / a
    ax, ay = solid[AXIS_X], solid[AXIS_Y]
    px = ox * ax + oy * ay
    py = oy * ax - ox * ay
    qx = dx * ax + dy * ay
    qy = dy * ax - dx * ay
    qx = qx if abs(qx) > 1e-6 else 1e-6
    qy = qy if abs(qy) > 1e-6 else 1e-6
    x0 = (-solid[HALF_X] - px) / qx
    x1 = (solid[HALF_X] - px) / qx
    y0 = (-solid[HALF_Y] - py) / qy
    y1 = (solid[HALF_Y] - py) / qy
    return max(min(x0, x1), min(y0, y1)), min(max(x0, x1), max(y0, y1))


@njit(cache=True)
def target_stand(timer: float, rules: Record) -> float:
    """How far a target is up: 1 standing, 0 flat on the floor."""
    if timer <= 0.0:
        return 1.0
    since = rules.target_fall + rules.target_down + rules.target_rise - timer
    if since < rules.target_fall:
        fallen = since / rules.target_fall
        return 1.0 - fallen * fallen
    if timer < rules.target_rise:
        risen = 1.0 - timer / rules.target_rise
        return risen * risen * (3.0 - 2.0 * risen)
    return 0.0
