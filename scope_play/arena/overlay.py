"""The weapon in the hand, its flash and tracer, the blade, the scope and the HUD, as a short list of flat shapes.

Coordinates are in picture heights from the picture's middle, right and down. The renderers know three shapes
(four-sided polygons, discs and rings) and draw them in order; what they cover is the in-scope mask.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from scope_play.arena.config import RIFLE
from scope_play.arena.geometry import Record

QUAD, DISC, RING = 0, 1, 2
# Columns of an item. EDGES: four (nx, ny, c), inside where c - n.p >= 0. RAMP: (gx, gy, g0), colour mix g0 + g.p from
# FROM to TO. Discs and rings use CENTRE, RADIUS and SOFT (their fall-off, or the ring's half width).
SHAPE, ALPHA, EDGES, RAMP, FROM, TO, LEFT, UP, RIGHT, DOWN, BLEED = 0, 1, 2, 14, 17, 20, 23, 24, 25, 26, 27
CENTRE, RADIUS, SOFT = 2, 4, 5
ITEM_WIDTH = 28
MAX_ITEMS = 72

_LENS = 1.0  # focal length of the hand's own camera, in picture heights


@njit(cache=True)
def _ramp(item: np.ndarray, r: float, g: float, b: float, r2: float, g2: float, b2: float) -> None:
    item[FROM], item[FROM + 1], item[FROM + 2] = min(r, 1.0), min(g, 1.0), min(b, 1.0)
    item[TO], item[TO + 1], item[TO + 2] = min(r2, 1.0), min(g2, 1.0), min(b2, 1.0)


@njit(cache=True)
def _quad(item: np.ndarray, p: np.ndarray, alpha: float, bleed: float, pixel: float) -> bool:
    """A convex quad with corners p (4, 2) in clockwise order on the screen; its ramp runs from edge 0-1 to edge 3-2."""
    area = 0.0
    for k in range(4):
        j = (k + 1) % 4
        area += p[k, 0] * p[j, 1] - p[j, 0] * p[k, 1]
    if area <= 1e-7:
        return False
    item[SHAPE], item[ALPHA], item[BLEED] = QUAD, alpha, bleed
    for k in range(4):
        j = (k + 1) % 4
        ex, ey = p[j, 0] - p[k, 0], p[j, 1] - p[k, 1]
        length = max(math.sqrt(ex * ex + ey * ey), 1e-9)
        nx, ny = ey / length, -ex / length
        item[EDGES + 3 * k], item[EDGES + 3 * k + 1] = nx, ny
        item[EDGES + 3 * k + 2] = nx * p[k, 0] + ny * p[k, 1]
    ax, ay = (p[0, 0] + p[1, 0]) / 2, (p[0, 1] + p[1, 1]) / 2
    bx, by = (p[3, 0] + p[2, 0]) / 2 - ax, (p[3, 1] + p[2, 1]) / 2 - ay
    scale = 1.0 / max(bx * bx + by * by, 1e-9)
    item[RAMP], item[RAMP + 1], item[RAMP + 2] = bx * scale, by * scale, -(ax * bx + ay * by) * scale
    margin = 1.5 * pixel
    item[LEFT] = min(min(p[0, 0], p[1, 0]), min(p[2, 0], p[3, 0])) - margin
    item[RIGHT] = max(max(p[0, 0], p[1, 0]), max(p[2, 0], p[3, 0])) + margin
    item[UP] = min(min(p[0, 1], p[1, 1]), min(p[2, 1], p[3, 1])) - margin
    item[DOWN] = max(max(p[0, 1], p[1, 1]), max(p[2, 1], p[3, 1])) + margin
    return True


@njit(cache=True)
def _rect(item: np.ndarray, x0: float, y0: float, x1: float, y1: float, alpha: float, pixel: float) -> None:
    p = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    _quad(item, p, alpha, 0.0, pixel)


@njit(cache=True)
def _round(
    item: np.ndarray, shape: int, x: float, y: float, radius: float, soft: float, alpha: float, px: float
) -> None:
    item[SHAPE], item[ALPHA] = shape, alpha
    item[CENTRE], item[CENTRE + 1], item[RADIUS], item[SOFT] = x, y, radius, soft
    reach = (radius if shape == DISC else radius + soft) + 1.5 * px
    item[LEFT], item[RIGHT], item[UP], item[DOWN] = x - reach, x + reach, y - reach, y + reach


@njit(cache=True)
def _turn(pose: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A point of the hand's space (right, up, forward) under pose (x, y, z, yaw, pitch, roll)."""
    c, s = math.cos(pose[5]), math.sin(pose[5])
    x, y = x * c - y * s, x * s + y * c
    c, s = math.cos(pose[4]), math.sin(pose[4])
    y, z = y * c + z * s, z * c - y * s
    c, s = math.cos(pose[3]), math.sin(pose[3])
    x, z = x * c + z * s, z * c - x * s
    return x + pose[0], y + pose[1], z + pose[2]


# Corners of a block: bit 0 right, bit 1 up, bit 2 far. Faces clockwise as seen from outside, near edge first.
_FACES = np.array(
    [[2, 3, 7, 6], [0, 2, 6, 4], [3, 1, 5, 7], [0, 1, 3, 2], [1, 0, 4, 5], [5, 4, 6, 7]], np.int64
)  # top, left, right, back, bottom, front
_LIGHT = np.array([1.18, 0.80, 0.98, 0.66, 0.46, 0.9])


@njit(cache=True)
def _block(items: np.ndarray, count: int, pose: np.ndarray, part: np.ndarray, glow: float, pixel: float) -> int:
    """Add the visible faces of one block. `part`: near centre (x, y, z), near half (w, h), length, far half (w, h),
    colour (3)."""
    corners = np.empty((8, 2))
    for k in range(8):
        far = k & 4
        half_w, half_h = (part[6], part[7]) if far else (part[3], part[4])
        x = part[0] + (half_w if k & 1 else -half_w)
        y = part[1] + (half_h if k & 2 else -half_h)
        x, y, z = _turn(pose, x, y, part[2] + (part[5] if far else 0.0))
        z = max(z, 0.06)
        corners[k, 0] = _LENS * x / z
        corners[k, 1] = -_LENS * y / z
    face = np.empty((4, 2))
    for f in range(6):
        for k in range(4):
            face[k] = corners[_FACES[f, k]]
        item = items[count]
        if count < MAX_ITEMS - 1 and _quad(item, face, 1.0, 0.4, pixel):
            near, far_light = _LIGHT[f] * 0.86 + glow, _LIGHT[f] * 1.06 + glow
            r, g, b = part[8], part[9], part[10]
            _ramp(item, r * near, g * near, b * near, r * far_light, g * far_light, b * far_light)
            count += 1
    return count


# Far parts first, so that near ones are drawn over them.
_RIFLE = np.array(
    [
        # x     y      z     w      h      len   w2     h2     colour
        [0.0, 0.000, 1.30, 0.026, 0.026, 0.10, 0.026, 0.026, 1.00, 0.52, 0.10],
        [0.0, 0.000, 0.95, 0.018, 0.018, 0.35, 0.018, 0.018, 0.22, 0.24, 0.30],
        [0.0, 0.045, 0.98, 0.006, 0.030, 0.03, 0.006, 0.020, 1.00, 0.52, 0.10],
        [0.0, -0.005, 0.55, 0.044, 0.040, 0.42, 0.032, 0.032, 0.40, 0.43, 0.50],
        [0.0, -0.020, 0.20, 0.052, 0.052, 0.36, 0.050, 0.048, 0.25, 0.27, 0.34],
        [0.0, 0.046, 0.34, 0.014, 0.012, 0.34, 0.014, 0.010, 0.95, 0.48, 0.12],
    ]
)
_CANNON = np.array(
    [
        [0.0, 0.000, 0.98, 0.100, 0.100, 0.10, 0.090, 0.090, 0.10, 0.16, 0.44],
        [0.0, 0.000, 0.50, 0.072, 0.072, 0.48, 0.080, 0.080, 0.16, 0.80, 0.88],
        [0.0, 0.000, 0.44, 0.092, 0.092, 0.08, 0.092, 0.092, 0.95, 0.97, 1.00],
        [0.0, 0.000, 0.20, 0.078, 0.078, 0.25, 0.074, 0.074, 0.16, 0.80, 0.88],
        [0.0, 0.088, 0.52, 0.020, 0.016, 0.40, 0.016, 0.012, 0.95, 0.97, 1.00],
    ]
)
_MUZZLE = np.array([[0.0, 0.0, 1.42], [0.0, 0.0, 1.10]])
_BLADE = np.array(
    [
        [0.0, 0.0, 0.70, 0.062, 0.010, 0.62, 0.030, 0.008, 0.86, 0.92, 1.00],
        [0.0, 0.0, 0.66, 0.085, 0.022, 0.04, 0.085, 0.022, 0.98, 0.72, 0.16],
        [0.0, 0.0, 0.50, 0.024, 0.022, 0.16, 0.024, 0.022, 0.45, 0.14, 0.16],
    ]
)
# Where each weapon is held: at the hip, and behind the scope.
_HIP = np.array([[0.27, -0.27, 0.0, -0.06, 0.03, 0.10], [0.30, -0.31, 0.02, -0.05, 0.04, 0.0]])
_AIMED = np.array([[0.0, -0.29, 0.05, 0.0, 0.02, 0.0], [0.0, -0.35, 0.10, 0.0, 0.02, 0.0]])


@njit(cache=True)
def _hold(s: Record, rules: Record, pose: np.ndarray) -> None:
    """The weapon's pose: hip or aimed, swaying, kicked, lowered to reload, to swing the blade or to be changed."""
    aim = s.aim * s.aim * (3.0 - 2.0 * s.aim)
    for k in range(6):
        pose[k] = _HIP[s.weapon, k] + (_AIMED[s.weapon, k] - _HIP[s.weapon, k]) * aim
    loose = 1.0 - 0.75 * aim
    pose[0] += loose * (0.014 * s.stride * math.sin(s.step_phase) - 0.022 * s.sway_x)
    pose[1] += loose * (-0.010 * s.stride * abs(math.cos(s.step_phase)) + 0.016 * s.sway_y - 0.03 * s.vz / 0.1)
    pose[3] += loose * 0.03 * s.sway_x
    kick = s.kick * (1.0 - 0.5 * aim)
    pose[1] += 0.025 * kick
    pose[2] -= 0.13 * kick
    pose[4] += 0.10 * kick
    low = 0.0
    if s.reload > 0.0:
        done = 1.0 - s.reload / rules.reload_frames
        low = math.sin(math.pi * done)
        pose[0] -= 0.16 * low
        pose[3] -= 0.45 * low
        pose[4] += 0.34 * low
        pose[5] -= 0.9 * low
        pose[1] -= 0.03 * low
    if s.switch > 0.0:
        half = rules.switch_frames / 2.0
        low = 1.0 - abs(s.switch - half) / half
        pose[1] -= 0.36 * low
        pose[4] -= 0.35 * low
    if s.melee > 0.0:
        low = math.sin(math.pi * s.melee / (rules.melee_frames + 1.0))
        pose[1] -= 0.20 * low
        pose[0] += 0.10 * low


@njit(cache=True)
def _shot(s: Record, rules: Record, pose: np.ndarray, pixel: float, items: np.ndarray, count: int) -> int:
    """Tracer from muzzle to crosshair, flash at the muzzle, spark where the shot landed."""
    fresh = s.flash / rules.flash_frames
    mx, my, mz = _turn(pose, _MUZZLE[s.weapon, 0], _MUZZLE[s.weapon, 1], _MUZZLE[s.weapon, 2])
    ux, uy = _LENS * mx / mz, -_LENS * my / mz
    rifle = s.weapon == RIFLE
    r, g, b = (1.0, 0.80, 0.30) if rifle else (0.45, 0.98, 1.0)
    wide = (0.008 if rifle else 0.022) * (0.5 + 0.5 * fresh)
    length = max(math.sqrt(ux * ux + uy * uy), 1e-6)
    sx, sy = -uy / length * wide, ux / length * wide
    # Corners clockwise on the screen whichever way the muzzle points: the side vector turns with it.
    p = np.array([[ux - sx, uy - sy], [ux + sx, uy + sy], [sx * 0.25, sy * 0.25], [-sx * 0.25, -sy * 0.25]])
    if _quad(items[count], p, 0.85 * fresh, 0.0, pixel):
        _ramp(items[count], r, g, b, 1.0, 1.0, 0.9)
        count += 1
    size = (0.10 if rifle else 0.16) * (0.55 + 0.45 * fresh)
    _round(items[count], DISC, ux, uy, size, size, 0.95 * fresh, pixel)
    _ramp(items[count], 1.0, 1.0, 0.92, r, g, b)
    count += 1
    if s.spark > 0.0:
        size = (0.035 if rifle else 0.06) + 0.05 / max(s.spark, 0.6)
        _round(items[count], DISC, 0.0, 0.0, size, size, 0.9 * fresh, pixel)
        _ramp(items[count], 1.0, 1.0, 0.95, r, g, b)
        count += 1
    return count


@njit(cache=True)
def _hud(s: Record, rules: Record, pixel: float, aspect: float, items: np.ndarray, count: int) -> int:
    """Scope ring, crosshair, ammunition bar."""
    if s.aim > 0.02:
        radius = 0.60 - 0.22 * s.aim
        _round(items[count], RING, 0.0, 0.0, radius, 0.016, 0.9 * s.aim, pixel)
        _ramp(items[count], 0.05, 0.06, 0.10, 0.05, 0.06, 0.10)
        count += 1
    red = s.aim
    gap, arm, thick = 0.014, 0.034, max(0.0055, 0.5 * pixel)
    for k in range(4):
        dx = (1.0, 0.0, -1.0, 0.0)[k]
        dy = (0.0, 1.0, 0.0, -1.0)[k]
        x0, x1 = dx * gap - abs(dy) * thick, dx * arm + abs(dy) * thick
        y0, y1 = dy * gap - abs(dx) * thick, dy * arm + abs(dx) * thick
        _rect(items[count], min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), 0.92, pixel)
        _ramp(items[count], 1.0, 1.0 - 0.8 * red, 1.0 - 0.85 * red, 1.0, 1.0 - 0.8 * red, 1.0 - 0.85 * red)
        count += 1
    left, low, long, high = -aspect / 2 + 0.05, 0.44, 0.36, 0.036
    _rect(items[count], left - 0.012, low - 0.012, left + long + 0.012, low + high + 0.012, 0.80, pixel)
    _ramp(items[count], 0.07, 0.08, 0.13, 0.07, 0.08, 0.13)
    count += 1
    full = s.ammo[s.weapon] / rules.magazine[s.weapon]
    if full > 0.0:
        _rect(items[count], left, low, left + long * full, low + high, 1.0, pixel)
        if s.weapon == RIFLE:
            _ramp(items[count], 1.0, 0.86, 0.36, 1.0, 0.70, 0.18)
        else:
            _ramp(items[count], 0.50, 0.98, 1.0, 0.20, 0.78, 0.92)
        count += 1
    return count


@njit(cache=True)
def _draw(s: Record, rules: Record, pixel: float, aspect: float, items: np.ndarray) -> int:
    """Fill `items` (MAX_ITEMS, ITEM_WIDTH) for one environment; returns how many there are.

    `pixel` is a pixel's side and `aspect` the picture's width, both in picture heights.
    """
    pose = np.empty(6)
    _hold(s, rules, pose)
    count = 0
    if s.flash > 0.0:
        count = _shot(s, rules, pose, pixel, items, count)
    parts = _RIFLE if s.weapon == RIFLE else _CANNON
    for k in range(parts.shape[0]):
        count = _block(items, count, pose, parts[k], 0.0, pixel)
    if s.melee > 0.0:
        swing = 1.0 - s.melee / rules.melee_frames
        reach = math.sin(math.pi * (1.0 - s.melee / (rules.melee_frames + 1.0)))
        pose[0], pose[1], pose[2] = 0.50 - 0.78 * swing, -0.84 + 0.24 * reach, 0.20
        pose[3], pose[4], pose[5] = -0.25 + 0.1 * swing, 0.85 - 0.1 * swing, 0.55 - 1.2 * swing
        for k in range(_BLADE.shape[0]):
            count = _block(items, count, pose, _BLADE[k], 0.25, pixel)
    return _hud(s, rules, pixel, aspect, items, count)


@njit(cache=True, nogil=True)
def draw_overlays(
    states: np.ndarray, rules: Record, pixel: float, aspect: float, items: np.ndarray, counts: np.ndarray
) -> None:
    """`_draw` for every environment: items (B, MAX_ITEMS, ITEM_WIDTH) and how many of them count."""
    for i in range(states.shape[0]):
        counts[i] = _draw(states[i], rules, pixel, aspect, items[i])
