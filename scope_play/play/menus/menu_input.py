"""From the device in use to what the player wants in a menu, with repeat while a direction is held.

Edges come as events, so that a tap shorter than a turn of the loop still counts. What was held when a menu opened does
not act on it: a button counts when it is pressed anew, a stick once it has been seen at rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scope_play.play.input.events import ButtonEvent, ReleaseEvent, StickEvent
from scope_play.play.menus.menu import Nav

if TYPE_CHECKING:
    from scope_play.play.input.events import PadEvent

BUTTONS: dict[str, Nav] = {
    "dpad_up": Nav.UP,
    "dpad_down": Nav.DOWN,
    "dpad_left": Nav.LEFT,
    "dpad_right": Nav.RIGHT,
    "a": Nav.OK,
    "b": Nav.BACK,
    "start": Nav.BACK,
    "back": Nav.BACK,
}

REPEAT_AFTER = 0.4
REPEAT_EVERY = 0.09
TILT = 0.55
"""How far a stick must lean to count as a direction."""
REST = 0.3
"""Below this it is at rest. The gap keeps a stick that trembles at `TILT` from counting again and again."""


@dataclass
class MenuInput:
    """`_held` maps what holds a direction (a button or the stick) to the direction and when it repeats. Give it every
    event, also those that mean something else, so that it knows what is let go."""

    _held: dict[str, tuple[Nav, float]] = field(default_factory=dict)
    _rested: bool = False

    def feed(self, event: PadEvent, now: float) -> Nav | None:
        """What an event asks for."""
        if isinstance(event, ReleaseEvent):
            self.let_go()
        elif isinstance(event, ButtonEvent) and event.button in BUTTONS:
            return self._hold(event.button, BUTTONS[event.button] if event.pressed else None, now)
        elif isinstance(event, StickEvent) and event.stick == "left":
            tilt = max(abs(event.x), abs(event.y))
            if tilt < REST:
                self._rested = True
                self._held.pop("stick", None)
            elif self._rested and tilt >= TILT:
                return self._hold("stick", direction(event.x, event.y), now)
        return None

    def repeats(self, now: float) -> list[Nav]:
        """Directions that have been held long enough to count again."""
        due = [(what, nav) for what, (nav, at) in self._held.items() if now >= at]
        for what, nav in due:
            self._held[what] = (nav, now + REPEAT_EVERY)
        return [nav for _, nav in due]

    def let_go(self) -> None:
        """Another screen: what is held now does not go on there. Feed it where the sticks stand afterwards."""
        self._held.clear()
        self._rested = False

    def _hold(self, what: str, nav: Nav | None, now: float) -> Nav | None:
        before = self._held.get(what, (None, 0.0))[0]
        if nav is None:
            self._held.pop(what, None)
            return None
        if nav is before:
            return None
        if nav in (Nav.OK, Nav.BACK):
            return nav
        self._held[what] = (nav, now + REPEAT_AFTER)
        return nav


def direction(x: float, y: float) -> Nav:
    """Where a stick at (x, y) points, right and down positive."""
    if abs(x) > abs(y):
        return Nav.RIGHT if x > 0 else Nav.LEFT
    return Nav.DOWN if y > 0 else Nav.UP
