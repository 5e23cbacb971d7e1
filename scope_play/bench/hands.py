"""Hands on a virtual pad: threads that move it while the app plays, and note when they pressed what.

The pad is set in a thread of its own, at any point of the app's loop, as a real pad's reports arrive: the wait for
the loop's next look at the pad is part of what is measured.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.play.input.scripted import TICK, ScriptedPad
from scope_play.play.input.translator import RawButton, RawEvent, RawStick, RawTrigger

PRESS_EVERY = (0.25, 0.6)
PRESS_SECONDS = 0.08
LOOKS = 2
"""The first may have been under way when the button went down."""

COLUMNS = {"a": "south", "x": "west", "y": "north", "right_stick": "right_thumb"}
"""Which action each button of the pad is, by the default map. Triggers travel, so they have no one moment."""


@dataclass(frozen=True)
class Press:
    """At clock time `at` the pad was given a press that belongs into `column` of the action rows."""

    at: float
    column: str


class Hand(threading.Thread):
    """Does what `moves` says: each item is a wait in seconds, and what to do with the pad after it.

    `presses` fills with what was pressed, the time taken just before SDL was told; take from its left. A button is
    held until the app has surely looked at the pad, which it says by calling `looked`: a real pad's reports wait in
    the system, but of a virtual one SDL keeps only the newest.
    """

    def __init__(
        self,
        pad: VirtualPad,
        moves: Iterator[tuple[float, list[RawEvent]]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(name="hand", daemon=True)
        self.presses: deque[Press] = deque()
        self._pad = pad
        self._moves = moves
        self._clock = clock
        self._stop_asked = threading.Event()
        self._looks = 0
        self._pressed_at_look: dict[str, int] = {}

    def looked(self) -> None:
        """The app has read its events once more."""
        self._looks += 1

    def run(self) -> None:
        for seconds, events in self._moves:
            if self._stop_asked.wait(seconds):
                return
            for event in events:
                self._move(event)

    def stop(self) -> None:
        """Returns once nothing touches the pad any more."""
        self._stop_asked.set()
        self.join()

    def _move(self, event: RawEvent) -> None:
        match event:
            case RawButton(_, _, control, pressed):
                if pressed and control in COLUMNS:
                    self.presses.append(Press(self._clock(), COLUMNS[control]))
                if pressed:
                    self._pressed_at_look[control] = self._looks
                else:
                    self._wait_for_looks(self._pressed_at_look.get(control, 0) + LOOKS)
                self._pad.set_button(control, pressed)
            case RawTrigger(_, _, control, value):
                self._pad.set_axis(control, value)
            case RawStick(_, _, control, x, y):
                self._pad.set_axis(f"{control}_x", x)
                self._pad.set_axis(f"{control}_y", y)

    def _wait_for_looks(self, looks: int) -> None:
        while self._looks < looks and not self._stop_asked.wait(TICK / 4):
            pass


def jumping(seed: int = 0) -> Iterator[tuple[float, list[RawEvent]]]:
    """Moves for a `Hand`: the jump button at random moments, so that every phase of a chunk is met, without end."""
    chance = random.Random(seed)
    device = ScriptedPad(0.0, seed).device
    while True:
        yield chance.uniform(*PRESS_EVERY), [RawButton(0.0, device, "a", True)]
        yield PRESS_SECONDS, [RawButton(0.0, device, "a", False)]


def demo(seed: int = 0, clock: Callable[[], float] = time.perf_counter) -> Iterator[tuple[float, list[RawEvent]]]:
    """Moves for a `Hand`: what `scope-play play --demo` plays, from when it is first asked, without end."""
    script = ScriptedPad(clock(), seed)
    while True:
        yield TICK, script.read((), clock())
