"""The map format: a square court, upright solids (turned boxes and drums) in and around it, and places for targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scope_play.errors import ScopeError

Colour = tuple[float, float, float]

BOX, DRUM = 0, 1
# Columns of the array form of a solid; the renderers index by these names.
KIND, X, Y, AXIS_X, AXIS_Y, HALF_X, HALF_Y, BOTTOM, TOP, RED, CAP_RED, CAP_FROM = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15
SOLID_WIDTH = 16


@dataclass(frozen=True)
class Solid:
    """An upright prism from `bottom` to `top`: a box with half sides `half`, turned by `angle`, or a drum of radius
    `half[0]`. Above `cap_from` it has the colour `cap`."""

    kind: int
    x: float
    y: float
    half: tuple[float, float]
    top: float
    colour: Colour
    cap: Colour | None = None
    cap_from: float | None = None
    bottom: float = 0.0
    angle: float = 0.0

    def as_row(self) -> np.ndarray:
        """The solid as float32 (SOLID_WIDTH,)."""
        cap = self.colour if self.cap is None else self.cap
        cap_from = self.top if self.cap_from is None else self.cap_from
        turned = (math.cos(self.angle), math.sin(self.angle))
        values = (self.kind, self.x, self.y, *turned, *self.half, self.bottom, self.top, *self.colour, *cap, cap_from)
        return np.array(values, np.float32)


@dataclass(frozen=True)
class ArenaMap:
    """A court of `size` x `size` cells, x to the east and y to the south, behind a wall of `wall_height`.

    `solids` inside the court are obstacles; those outside are landmarks. `targets` are (x, y) places.
    """

    size: float
    wall_height: float
    solids: tuple[Solid, ...]
    targets: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for x, y in self.targets:
            if not (0 < x < self.size and 0 < y < self.size):
                raise ScopeError(
                    f"map: the target at ({x}, {y}) is outside the court of {self.size} cells; move it in."
                )
        for solid in self.solids:
            if solid.top <= solid.bottom or min(solid.half) <= 0:
                raise ScopeError(f"map: the solid at ({solid.x}, {solid.y}) is empty; give it height and sides.")

    def obstacles(self) -> tuple[Solid, ...]:
        """Solids that stand in the court and stop a walker."""
        return tuple(s for s in self.solids if 0 < s.x < self.size and 0 < s.y < self.size and s.bottom == 0)


def _box(x: float, y: float, side: float, top: float, colour: Colour, **more: object) -> Solid:
    return Solid(BOX, x, y, (side, side), top, colour, **more)  # type: ignore[arg-type]


def _drum(x: float, y: float, radius: float, top: float, colour: Colour, **more: object) -> Solid:
    return Solid(DRUM, x, y, (radius, radius), top, colour, **more)  # type: ignore[arg-type]


CREAM: Colour = (0.98, 0.93, 0.80)
NAVY: Colour = (0.12, 0.16, 0.36)

COURTYARD = ArenaMap(
    size=8.0,
    wall_height=1.25,
    solids=(
        # Four pillars, each its own colour and shape.
        _box(2.2, 2.4, 0.52, 1.9, (0.86, 0.16, 0.13), cap=(1.0, 0.55, 0.32), cap_from=1.66),
        _drum(5.8, 2.1, 0.55, 2.2, (0.10, 0.28, 0.80), cap=(0.35, 0.70, 1.0), cap_from=1.92),
        _box(5.9, 5.7, 0.50, 1.8, (0.98, 0.74, 0.08), cap=(1.0, 0.90, 0.45), cap_from=1.56, angle=math.pi / 4),
        _drum(2.1, 5.8, 0.50, 2.0, (0.06, 0.56, 0.34), cap=(0.50, 0.90, 0.45), cap_from=1.74),
        # Landmarks over the wall, clockwise from the east.
        _drum(14.0, 4.5, 0.95, 4.2, (0.90, 0.25, 0.20), cap=CREAM, cap_from=3.0),
        _drum(14.0, 4.5, 1.25, 4.7, NAVY, bottom=4.2),
        _box(11.8, 12.2, 1.0, 3.4, (0.98, 0.66, 0.12), angle=0.5),
        _box(11.8, 12.2, 0.6, 4.8, (1.0, 0.83, 0.35), bottom=3.4, angle=0.5),
        _box(3.2, 14.2, 1.5, 2.6, (0.16, 0.60, 0.40), cap=(0.75, 0.92, 0.55), cap_from=2.3),
        _box(2.3, 14.2, 0.45, 4.6, (0.16, 0.60, 0.40), bottom=2.6, cap=CREAM, cap_from=4.1),
        _drum(-4.6, 10.4, 0.85, 5.0, (0.10, 0.62, 0.72), cap=(0.62, 0.95, 0.95), cap_from=4.4),
        _box(-6.2, 3.2, 1.1, 3.2, (0.22, 0.26, 0.74)),
        _box(-6.2, 3.2, 1.5, 3.7, (0.92, 0.72, 0.30), bottom=3.2),
        _drum(-2.8, -5.2, 0.7, 3.8, (0.56, 0.22, 0.70)),
        _drum(-2.8, -5.2, 1.05, 4.8, (0.86, 0.52, 0.92), bottom=3.8),
        _box(5.4, -6.4, 0.8, 5.2, (0.88, 0.20, 0.52), cap=(1.0, 0.68, 0.78), cap_from=4.5, angle=math.pi / 4),
        _drum(12.4, -3.0, 1.4, 2.9, (0.94, 0.45, 0.18)),
        _drum(12.4, -3.0, 0.85, 4.0, (1.0, 0.72, 0.40), bottom=2.9),
    ),
    targets=((4.0, 0.9), (7.1, 4.0), (4.0, 7.1), (0.9, 4.0), (4.0, 4.0)),
)
