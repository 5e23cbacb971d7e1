"""The baked light of the floor: colour by place, contact shadows, and the soft shadows of walls and pillars."""

from __future__ import annotations

import functools
import math

import numpy as np

from scope_play.arena.config import ArenaConfig
from scope_play.arena.map import BOX, Solid

_PENUMBRA = np.linspace(-1.0, 1.0, 9)


def _outside_distance(x: np.ndarray, y: np.ndarray, solid: Solid) -> np.ndarray:
    """Distance from ground points to the footprint of a solid, 0 inside."""
    if solid.kind == BOX:
        ax, ay = math.cos(solid.angle), math.sin(solid.angle)
        px = np.abs((x - solid.x) * ax + (y - solid.y) * ay) - solid.half[0]
        py = np.abs((y - solid.y) * ax - (x - solid.x) * ay) - solid.half[1]
        return np.hypot(np.maximum(px, 0.0), np.maximum(py, 0.0))
    return np.maximum(np.hypot(x - solid.x, y - solid.y) - solid.half[0], 0.0)


def _shade(x: np.ndarray, y: np.ndarray, config: ArenaConfig) -> np.ndarray:
    """Share of the sun that reaches ground points: marches towards a wide, soft sun."""
    court, look = config.map, config.look
    lit = np.zeros_like(x)
    for offset in _PENUMBRA:
        azimuth = look.sun_azimuth + 0.16 * offset
        slope = look.shadow_slope * (1.0 + 0.22 * offset)
        blocked = np.zeros(x.shape, bool)
        for t in np.arange(0.04, 2.6, 0.06):
            px, py = x + t * math.cos(azimuth), y + t * math.sin(azimuth)
            height = t * slope
            if height < court.wall_height:
                blocked |= (px < 0) | (px > court.size) | (py < 0) | (py > court.size)
            for solid in court.obstacles():
                if height < solid.top:
                    blocked |= _outside_distance(px, py, solid) <= 0.0
        lit += ~blocked
    return lit / len(_PENUMBRA)


@functools.cache
def bake_floor(config: ArenaConfig) -> np.ndarray:
    """The floor's colour at texel centres: float32 (texels, texels, 3), rows along y. Read it bilinearly, never write:
    all renderers of a config share it."""
    court, look = config.map, config.look
    count = int(court.size * config.floor_texels)
    places = (np.arange(count) + 0.5) / config.floor_texels
    x, y = np.meshgrid(places, places)
    u, v = (x / court.size)[..., None], (y / court.size)[..., None]
    a, b, c, d = (np.array(corner) for corner in look.floor_corners)
    colour = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
    radius = np.hypot(x - court.size / 2, y - court.size / 2)[..., None] / (court.size / 2)
    middle = np.exp(-((radius / 0.36) ** 2))
    colour = colour * (1 - 0.75 * middle) + np.array(look.floor_middle) * 0.75 * middle
    ring = np.exp(-(((radius - 0.6) / 0.055) ** 2))  # a soft ring: one can see oneself walk over it
    colour = colour * (1 + 0.16 * ring)

    contact = np.ones_like(x)
    edge = np.minimum.reduce([x, y, court.size - x, court.size - y])
    contact *= 1.0 - 0.42 * np.exp(-edge / 0.4)
    for solid in court.obstacles():
        contact *= 1.0 - 0.5 * np.exp(-_outside_distance(x, y, solid) / 0.28)
    for tx, ty in court.targets:
        distance = np.maximum(np.hypot(x - tx, y - ty) - config.rules.target_radius, 0.0)
        contact *= 1.0 - 0.5 * np.exp(-distance / 0.16)
    sunlit = _shade(x, y, config)
    light = np.stack([0.66 + 0.36 * sunlit, 0.68 + 0.33 * sunlit, 0.78 + 0.21 * sunlit], axis=-1)
    return np.clip(colour * light * contact[..., None], 0.0, 1.0).astype(np.float32)
