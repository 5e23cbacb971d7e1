"""The renderer for the CPU: one vertical slice of the scene at a time, nearest surface first, coverage exact along the
slice.

Every solid is upright, so a slice meets it in spans: its side, and its top or underside where the eye sees it.
The kernels share one file because numba's cache notices changes only in the file of the function that is called.
"""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit

from scope_play.arena.config import ArenaConfig, as_record
from scope_play.arena.geometry import Record, ray_solid
from scope_play.arena.light import bake_floor
from scope_play.arena.map import (
    AXIS_X,
    AXIS_Y,
    BOTTOM,
    CAP_FROM,
    CAP_RED,
    DRUM,
    HALF_X,
    HALF_Y,
    KIND,
    RED,
    TOP,
    X,
    Y,
)
from scope_play.arena.overlay import (
    ALPHA,
    BLEED,
    CENTRE,
    DISC,
    DOWN,
    EDGES,
    FROM,
    LEFT,
    QUAD,
    RADIUS,
    RAMP,
    RIGHT,
    SHAPE,
    SOFT,
    TO,
    UP,
)
from scope_play.arena.scene import (
    CAM_AIM,
    CAM_EYE,
    CAM_FOCAL,
    CAM_FX,
    CAM_FY,
    CAM_HORIZON,
    CAM_X,
    CAM_Y,
    Scene,
    SceneBuilder,
)
from scope_play.arena.simulate import ArenaState

# Columns of a span: sort key, upper and lower edge (picture heights, down), depth, fog share, whether it is a side,
# ground shadow strength, body colour, cap colour, height of the cap.
_KEY, _UP, _DOWN, _DEPTH, _FOG, _SIDE, _GROUND, _BODY, _CAP, _CAP_FROM = 0, 1, 2, 3, 4, 5, 6, 7, 10, 13
_SPAN_WIDTH = 14
_STRIP = 32

NEAR = 0.02
HUE_PHASE = (0.3, 2.4, 4.5)
F: Any = np.float32


@njit(cache=True, inline="always", error_model="numpy", fastmath=True)
def _span(spans: np.ndarray, count: int, key: float, up: float, down: float, depth: float, fog: float) -> np.ndarray:
    span = spans[count]
    span[_KEY], span[_UP], span[_DOWN], span[_DEPTH], span[_FOG] = key, up, down, depth, fog
    span[_SIDE] = F(0.0)
    span[_GROUND] = F(0.0)
    span[_CAP_FROM] = F(1e6)
    return span


@njit(cache=True, error_model="numpy", fastmath=True)
def _solid_spans(
    solid: np.ndarray,
    cam: np.ndarray,
    dx: float,
    dy: float,
    stretch: float,
    look: Record,
    spans: np.ndarray,
    count: int,
) -> int:
    enter, leave = ray_solid(solid, cam[CAM_X], cam[CAM_Y], dx, dy)
    if enter > leave or enter < F(NEAR):
        return count
    eye, focal, horizon = cam[CAM_EYE], cam[CAM_FOCAL], cam[CAM_HORIZON]
    px, py = cam[CAM_X] + dx * enter - solid[X], cam[CAM_Y] + dy * enter - solid[Y]
    if solid[KIND] == DRUM:
        nx, ny = px / solid[HALF_X], py / solid[HALF_X]
    else:
        ax, ay = solid[AXIS_X], solid[AXIS_Y]
        qx, qy = px * ax + py * ay, py * ax - px * ay
        if abs(qx) * solid[HALF_Y] > abs(qy) * solid[HALF_X]:
            nx, ny = (ax, ay) if qx > F(0.0) else (-ax, -ay)
        else:
            nx, ny = (-ay, ax) if qy > F(0.0) else (ay, -ax)
    light = look.ambient + look.diffuse * (nx * look.sun_x + ny * look.sun_y)
    far = enter * stretch
    fog = far * far / (far * far + look.fog_distance * look.fog_distance)
    up = horizon + (eye - solid[TOP]) * focal / enter
    down = horizon + (eye - solid[BOTTOM]) * focal / enter
    span = _span(spans, count, enter, up, down, enter, fog)
    span[_SIDE] = F(1.0)
    span[_GROUND] = F(1.0) if solid[BOTTOM] <= F(0.0) else F(0.0)
    span[_CAP_FROM] = solid[CAP_FROM]
    for c in range(3):
        span[_BODY + c] = solid[RED + c] * light
        span[_CAP + c] = solid[CAP_RED + c] * light
    count += 1
    if solid[TOP] < eye:
        span = _span(spans, count, leave, horizon + (eye - solid[TOP]) * focal / leave, up, enter, fog)
        for c in range(3):
            span[_BODY + c] = solid[CAP_RED + c] * F(1.06)
        count += 1
    if solid[BOTTOM] > eye:
        span = _span(spans, count, leave, down, horizon + (eye - solid[BOTTOM]) * focal / leave, enter, fog)
        for c in range(3):
            span[_BODY + c] = solid[RED + c] * F(0.5)
        count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=True)
def _wall_span(
    cam: np.ndarray,
    dx: float,
    dy: float,
    stretch: float,
    size: float,
    wall: float,
    look: Record,
    hues: np.ndarray,
    spans: np.ndarray,
    count: int,
) -> int:
    """The court's wall, from inside: a smooth wheel of hues around the middle."""
    dx = dx if abs(dx) > F(1e-6) else F(1e-6)
    dy = dy if abs(dy) > F(1e-6) else F(1e-6)
    tx = ((size if dx > F(0.0) else F(0.0)) - cam[CAM_X]) / dx
    ty = ((size if dy > F(0.0) else F(0.0)) - cam[CAM_Y]) / dy
    t = max(min(tx, ty), F(NEAR))
    nx = F(0.0)
    ny = F(0.0)
    if tx < ty:
        nx = F(-1.0) if dx > F(0.0) else F(1.0)
    else:
        ny = F(-1.0) if dy > F(0.0) else F(1.0)
    px, py = cam[CAM_X] + dx * t, cam[CAM_Y] + dy * t
    along = py if tx < ty else px
    corner = max(F(0.0), F(1.0) - min(along, size - along) / F(1.1))
    half = size / F(2.0)
    cx, cy = px - half, py - half
    radius = math.sqrt(cx * cx + cy * cy)
    cx, cy = cx / radius, cy / radius
    light = look.ambient + look.diffuse * (nx * look.sun_x + ny * look.sun_y)
    light *= F(1.0) - F(0.26) * corner * corner
    far = t * stretch
    fog = far * far / (far * far + look.fog_distance * look.fog_distance)
    focal, horizon = cam[CAM_FOCAL], cam[CAM_HORIZON]
    up = horizon + (cam[CAM_EYE] - wall) * focal / t
    span = _span(spans, count, t, up, horizon + cam[CAM_EYE] * focal / t, t, fog)
    span[_SIDE] = F(1.0)
    span[_GROUND] = F(1.0)
    span[_CAP_FROM] = wall - F(0.13)
    for c in range(3):
        hue = F(0.55) + F(0.36) * (cx * hues[c, 0] + cy * hues[c, 1])
        span[_BODY + c] = hue * light
        span[_CAP + c] = (hue + (look.wall_coping[c] - hue) * F(0.62)) * light
    return count + 1


@njit(cache=True, error_model="numpy", fastmath=True)
def _hill_spans(cam: np.ndarray, dx: float, dy: float, look: Record, spans: np.ndarray, count: int) -> int:
    """Two soft ridges at the end of the world, by heading alone."""
    heading = math.atan2(dy, dx)
    stretch = math.sqrt(dx * dx + dy * dy)
    horizon, scale = cam[CAM_HORIZON], cam[CAM_FOCAL] * stretch
    near = F(0.105) + F(0.045) * math.sin(F(2.0) * heading + F(0.6)) + F(0.030) * math.sin(F(5.0) * heading + F(2.0))
    far = F(0.165) + F(0.060) * math.sin(F(3.0) * heading + F(4.0)) + F(0.028) * math.sin(F(7.0) * heading + F(1.0))
    for ridge in range(2):
        rise = near if ridge == 0 else far
        key, fog = F(1e3) + F(ridge), F(0.22) + F(0.2) * F(ridge)
        span = _span(spans, count, key, horizon - rise * scale, horizon, F(1e3), fog)
        for c in range(3):
            span[_BODY + c] = look.hill_near[c] if ridge == 0 else look.hill_far[c]
        count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=True)
def _sort(spans: np.ndarray, count: int, order: np.ndarray) -> None:
    for i in range(count):
        k = i
        while k > 0 and spans[order[k - 1], _KEY] > spans[i, _KEY]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = i


@njit(cache=True, error_model="numpy", fastmath=True)
def _paint_span(
    span: np.ndarray, cam: np.ndarray, haze: np.ndarray, pixel: float, left: np.ndarray, column: np.ndarray
) -> bool:
    """Add a span to the column where something is still `left` to cover; True while anything is."""
    height = left.shape[0]
    scale = F(1.0) / pixel
    half = F(0.5) * F(height)
    up, down = span[_UP] * scale + half, span[_DOWN] * scale + half
    first, last = max(0, math.floor(max(up, F(-1.0)))), min(height, math.ceil(min(down, F(height + 1))))
    fog = span[_FOG]
    slope = span[_DEPTH] / cam[CAM_FOCAL] * pixel
    for row in range(first, last):
        if left[row] <= F(0.0):
            continue
        cover = min(down, F(row + 1)) - max(up, F(row))
        if cover <= F(0.0):
            continue
        weight = min(cover, F(1.0)) * left[row]
        left[row] -= weight
        cap = F(0.0)
        light = F(1.0)
        if span[_SIDE] > F(0.0):
            z = cam[CAM_EYE] - (F(row) + F(0.5) - half) * slope + cam[CAM_HORIZON] * span[_DEPTH] / cam[CAM_FOCAL]
            cap = min(max((z - span[_CAP_FROM]) / slope + F(0.5), F(0.0)), F(1.0))
            low = max(F(0.0), F(1.0) - max(z, F(0.0)) / F(0.7)) * span[_GROUND]
            light = F(1.0) - F(0.34) * low * low
        for c in range(3):
            colour = (span[_BODY + c] + (span[_CAP + c] - span[_BODY + c]) * cap) * light
            column[row, c] += weight * (colour + (haze[c] - colour) * fog)
    if span[_SIDE] == F(0.0):
        return True
    return left.max() > F(1e-4)


@njit(cache=True, error_model="numpy", fastmath=True)
def _paint_rest(
    cam: np.ndarray,
    dx: float,
    dy: float,
    stretch: float,
    size: float,
    look: Record,
    haze: np.ndarray,
    floor: np.ndarray,
    pixel: float,
    left: np.ndarray,
    column: np.ndarray,
) -> None:
    """Floor below the horizon and sky above it, where nothing stands."""
    height = left.shape[0]
    texels = floor.shape[0]
    focal = cam[CAM_FOCAL]
    sun_flat = (dx * look.sun_x + dy * look.sun_y) / stretch
    for row in range(height):
        weight = left[row]
        if weight <= F(0.0):
            continue
        v = (F(row) + F(0.5)) * pixel - F(0.5) - cam[CAM_HORIZON]
        if v > F(0.0):
            t = cam[CAM_EYE] * focal / v
            x = (cam[CAM_X] + dx * t) * (F(texels) / size) - F(0.5)
            y = (cam[CAM_Y] + dy * t) * (F(texels) / size) - F(0.5)
            x = min(max(x, F(0.0)), F(texels) - F(1.001))
            y = min(max(y, F(0.0)), F(texels) - F(1.001))
            ix, iy = int(x), int(y)
            ux, uy = x - F(ix), y - F(iy)
            far = t * stretch
            fog = far * far / (far * far + look.fog_distance * look.fog_distance)
            for c in range(3):
                upper = floor[iy, ix, c] + (floor[iy, ix + 1, c] - floor[iy, ix, c]) * ux
                lower = floor[iy + 1, ix, c] + (floor[iy + 1, ix + 1, c] - floor[iy + 1, ix, c]) * ux
                colour = upper + (lower - upper) * uy
                column[row, c] += weight * (colour + (haze[c] - colour) * fog)
        else:
            slope = -v / focal / stretch
            toward = (sun_flat + slope * look.sun_slope) * look.sun_norm / math.sqrt(F(1.0) + slope * slope)
            glow = max(toward, F(0.0))
            glow = glow * glow
            glow = glow * glow
            wide = glow * glow  # 8th power
            glow = wide * wide
            glow = glow * glow * glow  # 48th
            disc = min(max((toward - F(0.9905)) / F(0.0022), F(0.0)), F(1.0))
            low = slope / (slope + F(0.16))
            high = slope / (slope + F(0.9))
            for c in range(3):
                colour = haze[c] + (look.sky_middle[c] - haze[c]) * low
                colour = colour + (look.sky_zenith[c] - colour) * high
                colour = colour + (look.haze_sunward[c] - colour) * (F(0.22) * wide)
                colour = colour + (look.sun[c] - colour) * (F(0.62) * glow)
                colour = colour + (look.sun[c] - colour) * disc
                column[row, c] += weight * colour


@njit(cache=True, error_model="numpy", fastmath=True)
def _within_strip(
    cam: np.ndarray, solids: np.ndarray, first: float, columns: float, pixel: float, near: np.ndarray
) -> int:
    """Indices of the solids that slices of a strip can meet, into `near`; how many they are."""
    u0, u1 = first * pixel / cam[CAM_FOCAL], (first + columns) * pixel / cam[CAM_FOCAL]
    reach0, reach1 = math.sqrt(F(1.0) + u0 * u0), math.sqrt(F(1.0) + u1 * u1)
    count = 0
    for k in range(solids.shape[0]):
        ox, oy = solids[k, X] - cam[CAM_X], solids[k, Y] - cam[CAM_Y]
        ahead = ox * cam[CAM_FX] + oy * cam[CAM_FY]
        aside = oy * cam[CAM_FX] - ox * cam[CAM_FY]
        radius = F(1.01) * math.sqrt(solids[k, HALF_X] * solids[k, HALF_X] + solids[k, HALF_Y] * solids[k, HALF_Y])
        if ahead > -radius and u0 * ahead - aside < radius * reach0 and aside - u1 * ahead < radius * reach1:
            near[count] = k
            count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=True)
def _paint_world(
    cam: np.ndarray,
    solids: np.ndarray,
    floor: np.ndarray,
    look: Record,
    hues: np.ndarray,
    court: np.ndarray,
    samples: int,
    width: int,
    first: int,
    picture: np.ndarray,
) -> None:
    """World colours of columns first.. into picture (columns, H, 3), which starts at zero."""
    columns, height = picture.shape[0], picture.shape[1]
    pixel = F(1.0) / F(height)
    share = F(1.0) / F(samples)
    # Zeros, since tops and hills have no cap: none of it is shown, but of what memory held before, none could be a NaN.
    spans = np.zeros((3 * solids.shape[0] + 4, _SPAN_WIDTH), np.float32)
    order = np.empty(spans.shape[0], np.int64)
    left = np.empty(height, np.float32)
    haze = np.empty(3, np.float32)
    near = np.empty(solids.shape[0], np.int64)
    seen = _within_strip(cam, solids, F(first) - F(0.5) * F(width), F(columns), pixel, near)
    for column in range(columns):
        for sample in range(samples):
            u = (F(first + column) + (F(sample) + F(0.5)) * share - F(0.5) * F(width)) * pixel / cam[CAM_FOCAL]
            dx, dy = cam[CAM_FX] - u * cam[CAM_FY], cam[CAM_FY] + u * cam[CAM_FX]
            stretch = math.sqrt(F(1.0) + u * u)
            sunward = max(F(0.0), (dx * look.sun_x + dy * look.sun_y) / stretch)
            sunward = sunward * sunward * F(0.9)
            for c in range(3):
                haze[c] = look.haze[c] + (look.haze_sunward[c] - look.haze[c]) * sunward
            count = 0
            for k in range(seen):
                count = _solid_spans(solids[near[k]], cam, dx, dy, stretch, look, spans, count)
            count = _wall_span(cam, dx, dy, stretch, court[0], court[1], look, hues, spans, count)
            count = _hill_spans(cam, dx, dy, look, spans, count)
            _sort(spans, count, order)
            left[:] = share
            for k in range(count):
                if not _paint_span(spans[order[k]], cam, haze, pixel, left, picture[column]):
                    break
            _paint_rest(cam, dx, dy, stretch, court[0], look, haze, floor, pixel, left, picture[column])


@njit(cache=True, inline="always", error_model="numpy", fastmath=True)
def _cover(item: np.ndarray, x: float, y: float, scale: float) -> float:
    """Share of a pixel at (x, y) that an item covers, times its opacity. `scale`: pixels in a picture height."""
    if item[SHAPE] == QUAD:
        inside = F(1e9)
        for k in range(4):
            inside = min(inside, item[EDGES + 3 * k + 2] - item[EDGES + 3 * k] * x - item[EDGES + 3 * k + 1] * y)
        return min(max(inside * scale + F(0.5) + item[BLEED], F(0.0)), F(1.0)) * item[ALPHA]
    dx, dy = x - item[CENTRE], y - item[CENTRE + 1]
    distance = math.sqrt(dx * dx + dy * dy)
    if item[SHAPE] == DISC:
        inside = min(max((item[RADIUS] - distance) / item[SOFT], F(0.0)), F(1.0))
        return inside * inside * (F(3.0) - F(2.0) * inside) * item[ALPHA]
    inside = item[SOFT] - abs(distance - item[RADIUS])
    return min(max(inside * scale + F(0.5), F(0.0)), F(1.0)) * item[ALPHA]


@njit(cache=True, inline="always", error_model="numpy", fastmath=True)
def _mix(item: np.ndarray, x: float, y: float) -> float:
    """Where on an item's colour ramp a point is, 0 to 1."""
    if item[SHAPE] == QUAD:
        return min(max(item[RAMP] * x + item[RAMP + 1] * y + item[RAMP + 2], F(0.0)), F(1.0))
    dx, dy = x - item[CENTRE], y - item[CENTRE + 1]
    return min(math.sqrt(dx * dx + dy * dy) / item[RADIUS], F(1.0))


@njit(cache=True, error_model="numpy", fastmath=True)
def _paint_overlay(
    items: np.ndarray, count: int, width: int, first: int, picture: np.ndarray, mask: np.ndarray
) -> None:
    """Items over the picture's columns (columns, H, 3), and what they touch into mask (columns, H)."""
    columns, height = picture.shape[0], picture.shape[1]
    scale = F(height)
    middle_x, middle_y = F(0.5) * F(width), F(0.5) * F(height)
    for k in range(count):
        item = items[k]
        x0 = max(0, math.floor(item[LEFT] * scale + middle_x) - first)
        x1 = min(columns, math.ceil(item[RIGHT] * scale + middle_x) - first)
        y0 = max(0, math.floor(item[UP] * scale + middle_y))
        y1 = min(height, math.ceil(item[DOWN] * scale + middle_y))
        for column in range(x0, x1):
            x = (F(first + column) + F(0.5) - middle_x) / scale
            for row in range(y0, y1):
                y = (F(row) + F(0.5) - middle_y) / scale
                alpha = _cover(item, x, y, scale)
                if alpha <= F(0.0):
                    continue
                mask[column, row] = True
                mix = _mix(item, x, y)
                for c in range(3):
                    colour = item[FROM + c] + (item[TO + c] - item[FROM + c]) * mix
                    picture[column, row, c] += (colour - picture[column, row, c]) * alpha


@njit(cache=True, error_model="numpy", fastmath=True)
def _paint_vignette(cam: np.ndarray, look: Record, width: int, first: int, picture: np.ndarray) -> None:
    """Behind the scope the picture darkens outside the ring."""
    columns, height = picture.shape[0], picture.shape[1]
    pixel = F(1.0) / F(height)
    for column in range(columns):
        x = (F(first + column) + F(0.5) - F(0.5) * F(width)) * pixel
        for row in range(height):
            y = (F(row) + F(0.5)) * pixel - F(0.5)
            dark = min(max((math.sqrt(x * x + y * y) - F(0.34)) / F(0.10), F(0.0)), F(1.0))
            light = F(1.0) - look.vignette * cam[CAM_AIM] * dark * dark * (F(3.0) - F(2.0) * dark)
            for c in range(3):
                picture[column, row, c] *= light


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _render(
    camera: np.ndarray,
    solids: np.ndarray,
    items: np.ndarray,
    item_count: np.ndarray,
    floor: np.ndarray,
    look: Record,
    hues: np.ndarray,
    court: np.ndarray,
    samples: int,
    begin: int,
    end: int,
    out: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Draw strips begin..end, counted through all environments, into out (B, H, W, 3) and mask (B, H, W)."""
    height, width = out.shape[1], out.shape[2]
    strips = (width + _STRIP - 1) // _STRIP
    for index in range(begin, end):
        i, first = index // strips, index % strips * _STRIP
        columns = min(_STRIP, width - first)
        picture = np.zeros((columns, height, 3), np.float32)
        touched = np.zeros((columns, height), np.bool_)
        _paint_world(camera[i], solids[i], floor, look, hues, court, samples, width, first, picture)
        if camera[i, CAM_AIM] > F(0.0):
            _paint_vignette(camera[i], look, width, first, picture)
        _paint_overlay(items[i], item_count[i], width, first, picture, touched)
        for row in range(height):
            for column in range(columns):
                mask[i, row, first + column] = touched[column, row]
                for c in range(3):
                    value = min(max(picture[column, row, c], F(0.0)), F(1.0))
                    out[i, row, first + column, c] = np.uint8(value * F(255.0) + F(0.5))


def light_record(config: ArenaConfig) -> np.void:
    """The look in float32, with the sun's direction worked out: (sun_x, sun_y) on the ground, sun_norm for 3-D."""
    look = as_record(config.look, np.float32)
    record = np.zeros(1, np.dtype([*look.dtype.descr, ("sun_x", "<f4"), ("sun_y", "<f4"), ("sun_norm", "<f4")]))
    for name in look.dtype.names or ():
        record[name] = look[name]
    record["sun_x"], record["sun_y"] = math.cos(config.look.sun_azimuth), math.sin(config.look.sun_azimuth)
    record["sun_norm"] = 1.0 / math.sqrt(1.0 + config.look.sun_slope**2)
    return record[0]


def wall_hues() -> np.ndarray:
    """Unit vectors (3, 2): the headings at which the wall is reddest, greenest and bluest."""
    return np.array([(math.cos(phase), math.sin(phase)) for phase in HUE_PHASE], np.float32)


class Renderer:
    """Draws states with compiled code on `threads` threads (all cores if None)."""

    def __init__(self, config: ArenaConfig, height: int, width: int, threads: int | None = None) -> None:
        self.config, self.height, self.width = config, height, width
        self.builder = SceneBuilder(config, height, width)
        self._floor, self._look, self._hues = bake_floor(config), light_record(config), wall_hues()
        self._court = np.array([config.map.size, config.map.wall_height], np.float32)
        self._threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "arena-render") if self._threads > 1 else None

    def render(self, state: ArenaState, *, overlay: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 (B, H, W, 3) and masks bool (B, H, W) of where weapon and HUD are drawn.

        Without `overlay` they are not, and the court is seen as if through empty hands.
        """
        scene = self.builder.build(state)
        if not overlay:
            scene.item_count[:] = 0
        out = np.empty((len(state), self.height, self.width, 3), np.uint8)
        mask = np.empty((len(state), self.height, self.width), np.bool_)
        jobs = len(state) * ((self.width + _STRIP - 1) // _STRIP)
        parts = min(jobs, 2 * self._threads) if self._pool else 1
        bounds = [jobs * k // parts for k in range(parts + 1)]
        if self._pool is None:
            self._draw(scene, 0, jobs, out, mask)
        else:
            tasks = [self._pool.submit(self._draw, scene, a, b, out, mask) for a, b in itertools.pairwise(bounds)]
            for task in tasks:
                task.result()
        return out, mask

    def _draw(self, scene: Scene, begin: int, end: int, out: np.ndarray, mask: np.ndarray) -> None:
        _render(
            scene.camera, scene.solids, scene.items, scene.item_count, self._floor, self._look, self._hues,
            self._court, self.config.subcolumns, begin, end, out, mask,
        )  # fmt: skip
