"""How raw sticks and triggers become what a game is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scope_play.play.input.events import CENTRE, Vector


@dataclass(frozen=True)
class StickShape:
    """How a raw stick becomes a game stick.

    Deflection below `dead_zone` is 0 and above `full` is 1; between them it is rescaled, so that slow movement is
    not lost at the edge of the dead zone, then raised to `curve` (1 linear, above 1 finer around the centre) and
    multiplied by `sensitivity`, never beyond 1. 0 <= dead_zone < full <= 1; curve and sensitivity are positive.
    """

    dead_zone: float = 0.12
    full: float = 0.97
    curve: float = 1.0
    sensitivity: float = 1.0
    invert_y: bool = False


def shape_stick(raw: Vector, shape: StickShape) -> Vector:
    """Radial dead zone, rescaling, response curve, sensitivity; keeps the direction and stays in the unit disc.

    `raw` is (x, y) in the square [-1, 1]^2; its corners, which a square-gated stick reaches, count as fully deflected.
    """
    x, y = raw
    deflection = math.hypot(x, y)
    if deflection <= shape.dead_zone:
        return CENTRE
    travel = min(1.0, (deflection - shape.dead_zone) / (shape.full - shape.dead_zone))
    scale = min(1.0, shape.sensitivity * travel**shape.curve) / deflection
    return x * scale, (-y if shape.invert_y else y) * scale


@dataclass(frozen=True)
class TriggerShape:
    """A trigger becomes a button: pressed from `press` on, released below `release`. 0 < release <= press <= 1.

    The gap between the two keeps a trigger held near the threshold from firing again and again.
    """

    press: float = 0.30
    release: float = 0.20


def trigger_pressed(value: float, was_pressed: bool, shape: TriggerShape) -> bool:
    """Whether a trigger at `value` in [0, 1] counts as pressed, given whether it did before."""
    return value >= (shape.release if was_pressed else shape.press)
