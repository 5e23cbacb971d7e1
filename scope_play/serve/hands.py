"""One player's hands, on the player's own clock: messages to events to rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scope_play.actions import BUTTONS
from scope_play.errors import ScopeError
from scope_play.play.input.action_sampler import INPUT_MODES, ActionSampler, InputMode
from scope_play.play.input.events import ButtonEvent, LookEvent, PadEvent, ReleaseEvent, StickEvent, into_disc

MOST_EVENTS = 512
"""In one message: two seconds at the rate a page looks at its pad."""

FARTHEST = 100.0
"""A single turn of a mouse, in full sticks of one frame."""


class Hands:
    """Rows of what was done. Raises ScopeError for events that no player can have made; nothing has changed then."""

    def __init__(self) -> None:
        self._sampler = ActionSampler()
        self._mode: InputMode = "exact"
        self._event = self._now = 0.0

    def begin(self, mode: str) -> None:
        found: list[InputMode] = [known for known in INPUT_MODES if known == mode]
        if not found:
            raise ScopeError(f"input mode {mode[:40]!r} is not known; choose one of {', '.join(INPUT_MODES)}")
        self._mode = found[0]

    def start(self, t: float) -> None:
        """Play begins or goes on at `t` ms: nothing is held. The clock may have been set anew."""
        self._event = self._now = _time(t, 0.0)
        self._sampler.start(t / 1000)

    def take(self, events: list[Any]) -> None:
        """As in `messages.In`."""
        if len(events) > MOST_EVENTS:
            raise ScopeError(f"{len(events)} events in one message are more than {MOST_EVENTS}; send them sooner")
        read: list[PadEvent] = []
        last = self._event
        for event in events:
            if not isinstance(event, list) or not event:
                raise ScopeError("an event is no list; write it as [t, kind, ...]")
            last = _time(event[0], last)
            read.append(_event(last / 1000, event[1:]))
        self._event = last
        for item in read:
            self._sampler.push(item)

    def rows(self, now: float, n: int) -> np.ndarray:
        """What was done until `now` ms, float32 (n, 10)."""
        self.reach(now)
        return self._sampler.rows(now / 1000, n, self._mode)

    def reach(self, now: float) -> None:
        """Rows up to `now` ms were made elsewhere."""
        self._now = _time(now, self._now)

    def release(self) -> None:
        self._sampler.release_all(self._now / 1000)


def _time(t: Any, least: float) -> float:
    if isinstance(t, bool) or not isinstance(t, (int, float)) or not math.isfinite(t) or not least <= t < 1e15:
        raise ScopeError(f"time {str(t)[:40]} is no number of ms from {least:.1f} on; keep to one clock")
    return float(t)


def _event(t: float, body: list[Any]) -> PadEvent:
    match body:
        case ["button", str(name), bool(pressed)] if name in BUTTONS:
            return ButtonEvent(t, name, pressed)
        case ["stick", "left" | "right" as stick, float() | int() as x, float() | int() as y]:
            return StickEvent(t, stick, *into_disc((_number(x, 1.5), _number(y, 1.5))))
        case ["look", float() | int() as x, float() | int() as y]:
            return LookEvent(t, _number(x, FARTHEST), _number(y, FARTHEST))
        case ["release"]:
            return ReleaseEvent(t)
    raise ScopeError(f"event {str(body)[:60]} is not known; send button, stick, look or release")


def _number(value: float, most: float) -> float:
    if not abs(value) <= most:  # NaN too
        raise ScopeError(f"an event has {str(value)[:40]}, which must lie between -{most:g} and {most:g}")
    return float(value)
