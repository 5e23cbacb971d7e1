"""What a player holds right now, and the events that change it.

Every way in (SDL controllers, the `inputs` library, keyboard and mouse, the scripted pad) ends in these types, so
that nothing behind them knows which device is used. Sticks are (x, y) with right and down positive: forward is
negative y (SPEC.md section 2). Times are seconds on one monotonic clock, `time.perf_counter` in the app.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scope_play.actions import BUTTONS, ROW_WIDTH

MENU_BUTTONS = ("start", "back", "a", "b", "dpad_up", "dpad_down", "dpad_left", "dpad_right")

StickName = Literal["left", "right"]
Vector = tuple[float, float]
CENTRE: Vector = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ButtonEvent:
    """An edge at time `t` of a game button (`BUTTONS`) or a menu button (`MENU_BUTTONS`)."""

    t: float
    button: str
    pressed: bool


@dataclass(frozen=True, slots=True)
class StickEvent:
    """A stick arrived at (x, y), already shaped: inside the unit disc."""

    t: float
    stick: StickName
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class LookEvent:
    """A relative turn, from a mouse. One unit is what a full right stick turns in one frame (50 ms)."""

    t: float
    dx: float
    dy: float


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    """Everything is let go at once: unplugged, focus lost, or another device took over."""

    t: float


PadEvent = ButtonEvent | StickEvent | LookEvent | ReleaseEvent


@dataclass(frozen=True, slots=True)
class PadState:
    """The newest state of the device in use: after remapping and shaping for the game, as labelled for the menus.

    `right_trigger` ... `north` carry the names of `actions.BUTTONS`. `start` ... `dpad_right` are the device's own
    buttons, whatever they are bound to, so that no remapping can lock anybody out of a menu. `triggers` are the two
    analogue values in [0, 1], left then right, for an overlay.
    """

    right_trigger: bool = False
    left_trigger: bool = False
    south: bool = False
    right_thumb: bool = False
    west: bool = False
    north: bool = False
    left: Vector = CENTRE
    right: Vector = CENTRE
    triggers: Vector = (0.0, 0.0)
    start: bool = False
    back: bool = False
    a: bool = False
    b: bool = False
    dpad_up: bool = False
    dpad_down: bool = False
    dpad_left: bool = False
    dpad_right: bool = False
    source: str = "none"
    guid: str = ""
    connected: bool = False

    @property
    def buttons(self) -> tuple[bool, ...]:
        """The six game buttons in the order of `actions.BUTTONS`."""
        return tuple(bool(getattr(self, name)) for name in BUTTONS)

    def row(self) -> NDArray[np.float32]:
        """This state as one action row, float32 (10,)."""
        row = np.zeros(ROW_WIDTH, dtype=np.float32)
        row[: len(BUTTONS)] = self.buttons
        row[len(BUTTONS) :] = (*self.left, *self.right)
        return row


def into_disc(vector: Vector) -> Vector:
    """The vector, shortened to length 1 if it is longer."""
    length = math.hypot(*vector)
    return vector if length <= 1.0 else (vector[0] / length, vector[1] / length)
