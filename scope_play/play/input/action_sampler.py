"""Device events in, action rows out: every row is what the pad did in its share of the time.

`ActionSampler.rows(now, n, mode)` divides the time since the last call evenly among its n rows. While the engine keeps
pace that is 50 ms a row, the 20 Hz frame grid; when the world runs in slow motion the rows stretch with it, so no
event falls into a gap and none is counted twice. What one row can show:

*Buttons.* A row changes a button at most once, and edges wait their turn: a press shorter than a row is one pressed
row; a second press within the same row follows after one released row. At most `MAX_WAITING_EDGES` edges wait, a
chunk's worth: mashing faster than ten presses a second loses whole presses rather than adding delay.

*Sticks.* A row shows where the stick was at the row's end. If it went away and came back inside the row - to a point
where it turned by more than a right angle, further than `FLICK` from both ends - the row shows the farthest such
point instead, and the next row is already back at the end point. A shown value is always one the stick really had.

*Mouse.* Turns inside the row are added up. What exceeds a full deflection is carried to later rows and shrinks by
`CARRY_DECAY` a row, so that a fast swipe turns far, but does not go on turning for long.

In `responsive` mode everything since the last call happened before the first row: the rows hold the newest state,
after waiting edges have passed (a tap is one pressed row), and turns are spread evenly over the rows. Less delay,
coarser.

One thread may push while another takes rows.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scope_play.actions import BUTTONS, FPS, ROW_WIDTH
from scope_play.play.input.events import (
    CENTRE,
    ButtonEvent,
    LookEvent,
    PadEvent,
    ReleaseEvent,
    StickEvent,
    StickName,
    Vector,
    into_disc,
)

InputMode = Literal["exact", "responsive"]
INPUT_MODES: tuple[InputMode, ...] = ("exact", "responsive")

ROW_SECONDS = 1.0 / FPS
MAX_WAITING_EDGES = 4
FLICK = 0.1
CARRY_DECAY = 0.5
MAX_EVENTS = 4096  # four seconds of a 1 kHz mouse: reached only when nobody takes rows


class _Button:
    """One button: `level` is where the device is, `shown` where the rows are, `waiting` the edges between them."""

    def __init__(self) -> None:
        self.shown = False
        self.waiting: deque[bool] = deque()

    @property
    def level(self) -> bool:
        return self.waiting[-1] if self.waiting else self.shown

    def edge(self, pressed: bool) -> None:
        if pressed == self.level:
            return
        self.waiting.append(pressed)
        if len(self.waiting) > MAX_WAITING_EDGES:
            self.waiting.pop()  # a press and its release go together, so the level stays true
            self.waiting.pop()

    def show(self) -> bool:
        if self.waiting:
            self.shown = self.waiting.popleft()
        return self.shown


class _Stick:
    """One stick: where it is, and where it has been since the row began."""

    def __init__(self) -> None:
        self.position: Vector = CENTRE
        self.path: list[Vector] = []

    def move(self, position: Vector) -> None:
        self.path.append(self.position)
        self.position = position

    def show(self) -> Vector:
        if not self.path:
            return self.position
        start, end = self.path[0], self.position
        farthest = max(self.path, key=lambda point: flick_size(start, point, end))
        self.path.clear()
        return farthest if flick_size(start, farthest, end) >= FLICK else end


def flick_size(start: Vector, point: Vector, end: Vector) -> float:
    """How far `point` sticks out of a move from `start` to `end`: the distance to the nearer end, or 0.

    It is 0 inside the circle that has start and end at opposite sides (Thales): there the stick was still on its way.
    """
    turn = (point[0] - start[0]) * (end[0] - point[0]) + (point[1] - start[1]) * (end[1] - point[1])
    return min(math.dist(point, start), math.dist(point, end)) if turn < 0.0 else 0.0


class ActionSampler:
    """Collects `PadEvent`s and hands them out as action rows; see the module's text for what a row shows."""

    _taken: float

    def __init__(self, now: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._reset(now)

    def push(self, event: PadEvent) -> None:
        """Add an event. Events count in the order they are pushed; menu buttons are ignored.

        An event older than the last call of `rows` counts in the next row; one newer than its `now` waits.
        """
        if isinstance(event, ButtonEvent) and event.button not in self._buttons:
            return
        with self._lock:
            self._events.append(event)
            if len(self._events) > MAX_EVENTS:
                self._skip(self._events.popleft())

    def rows(self, now: float, n: int, mode: InputMode = "exact") -> NDArray[np.float32]:
        """The n rows for the time since the last call, float32 (n, 10). `now` is in seconds, on the events' clock."""
        with self._lock:
            span = max(0.0, now - self._taken)
            self._taken = max(self._taken, now)
            rows = np.empty((n, ROW_WIDTH), dtype=np.float32)
            if mode == "responsive":
                self._apply_until(now)
                turns = self._spread_turn(n)
                for k in range(n):
                    rows[k] = self._show(turns[k])
            else:
                for k in range(n):
                    self._apply_until(now - span * (n - 1 - k) / n)
                    rows[k] = self._show(self._take_turn())
            return rows

    def release_all(self, now: float) -> None:
        """Everything is let go at `now`: unplugged, or the window lost the focus. What was done before still counts."""
        self.push(ReleaseEvent(now))

    def start(self, now: float) -> None:
        """Begin at `now` as if nothing had ever been held: a new session, or play after a pause."""
        with self._lock:
            self._reset(now)

    def _reset(self, now: float) -> None:
        self._events: deque[PadEvent] = deque()
        self._buttons = {name: _Button() for name in BUTTONS}
        self._sticks: dict[StickName, _Stick] = {"left": _Stick(), "right": _Stick()}
        self._turn: Vector = CENTRE
        self._taken = now

    def _apply_until(self, end: float) -> None:
        while self._events and self._events[0].t <= end:
            self._apply(self._events.popleft())

    def _apply(self, event: PadEvent) -> None:
        if isinstance(event, ButtonEvent):
            self._buttons[event.button].edge(event.pressed)
        elif isinstance(event, StickEvent):
            self._sticks[event.stick].move((event.x, event.y))
        elif isinstance(event, LookEvent):
            self._turn = (self._turn[0] + event.dx, self._turn[1] + event.dy)
        else:
            for button in self._buttons.values():
                button.edge(False)
            for stick in self._sticks.values():
                stick.move(CENTRE)
            self._turn = CENTRE

    def _skip(self, event: PadEvent) -> None:
        """Apply an event that nobody will see as a row: only where it leaves the device counts."""
        if not isinstance(event, LookEvent):
            self._apply(event)
        for stick in self._sticks.values():
            stick.path.clear()

    def _take_turn(self) -> Vector:
        shown = into_disc(self._turn)
        self._turn = ((self._turn[0] - shown[0]) * CARRY_DECAY, (self._turn[1] - shown[1]) * CARRY_DECAY)
        return shown

    def _spread_turn(self, n: int) -> list[Vector]:
        total, turns = self._turn, []
        self._turn = CENTRE
        for _ in range(n):
            self._turn = (self._turn[0] + total[0] / n, self._turn[1] + total[1] / n)
            turns.append(self._take_turn())
        return turns

    def _show(self, turn: Vector) -> list[float]:
        left, right = self._sticks["left"].show(), self._sticks["right"].show()
        right = into_disc((right[0] + turn[0], right[1] + turn[1]))
        return [*(float(button.show()) for button in self._buttons.values()), *left, *right]
