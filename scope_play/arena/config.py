"""Every constant of the arena: the rules of motion and combat, and the look. Frozen, and shared by both renderers.

Lengths are in cells, angles in radians, times in frames (20 per second), colours in [0, 1].
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from scope_play.arena.map import COURTYARD, ArenaMap

Colour = tuple[float, float, float]

RIFLE, CANNON = 0, 1
WEAPONS = 2
MAX_TARGETS = 8


@dataclass(frozen=True)
class Rules:
    """How the player and the targets move. Pairs are (rifle, cannon)."""

    walk_speed: float = 0.07
    walk_response: float = 0.5  # share of the gap to the wanted velocity closed in one frame
    body_radius: float = 0.28
    turn_rate: float = 0.045
    pitch_rate: float = 0.03
    pitch_limit: float = 0.38  # the horizon stays in the picture
    eye_height: float = 0.6
    jump_height: float = 0.4
    jump_frames: float = 14.0
    land_frames: float = 6.0
    land_dip: float = 0.06
    aim_frames: float = 5.0
    aim_turn: float = 0.6  # turning and walking are slower behind the scope
    aim_walk: float = 0.5
    zoom: float = 1.7
    magazine: tuple[float, float] = (30.0, 8.0)
    fire_frames: tuple[float, float] = (3.0, 9.0)
    kick: tuple[float, float] = (0.55, 1.0)
    kick_decay: float = 0.72
    flash_frames: float = 2.0
    reload_frames: float = 24.0
    melee_frames: float = 10.0
    melee_reach: float = 1.3
    switch_frames: float = 10.0
    target_radius: float = 0.24
    target_height: float = 1.0
    target_fall: float = 7.0
    target_down: float = 70.0
    target_rise: float = 10.0


@dataclass(frozen=True)
class Look:
    """Camera and light. `half_view` is the tangent of half the vertical field of view; pitch shifts the picture up and
    down (two-point perspective), so uprights stay upright at every pitch."""

    half_view: float = 0.5
    sun_azimuth: float = 0.9
    sun_slope: float = 0.36
    shadow_slope: float = 0.85  # baked shadows are shorter than the low sun would throw them
    ambient: float = 0.86
    diffuse: float = 0.2
    sky_zenith: Colour = (0.16, 0.38, 0.86)
    sky_middle: Colour = (0.47, 0.68, 0.97)
    haze: Colour = (0.84, 0.87, 0.95)
    haze_sunward: Colour = (1.0, 0.83, 0.66)
    sun: Colour = (1.0, 0.97, 0.88)
    hill_far: Colour = (0.52, 0.56, 0.82)
    hill_near: Colour = (0.33, 0.44, 0.66)
    fog_distance: float = 22.0
    wall_coping: Colour = (0.97, 0.93, 0.86)
    floor_corners: tuple[Colour, Colour, Colour, Colour] = (
        (0.13, 0.66, 0.70),  # x=0 y=0
        (0.98, 0.46, 0.34),  # x=1 y=0
        (0.98, 0.76, 0.20),  # x=1 y=1
        (0.54, 0.36, 0.86),  # x=0 y=1
    )
    floor_middle: Colour = (0.99, 0.86, 0.66)
    vignette: float = 0.45


@dataclass(frozen=True)
class ArenaConfig:
    map: ArenaMap = COURTYARD
    rules: Rules = field(default_factory=Rules)
    look: Look = field(default_factory=Look)
    subcolumns: int = 2  # samples across each pixel; down each pixel coverage is exact
    floor_texels: int = 16  # baked floor light, per cell


def as_record(constants: Rules | Look, dtype: type[np.floating] = np.float64) -> np.void:
    """A dataclass of numbers as one numpy record, which compiled code reads by the same names."""
    values = {item.name: np.asarray(getattr(constants, item.name), dtype) for item in dataclasses.fields(constants)}
    record = np.zeros(1, np.dtype([(name, dtype, value.shape) for name, value in values.items()]))
    for name, value in values.items():
        record[name] = value
    return record[0]
