"""From one pad's raw controls to game events: remapping, shaping, and which buttons are held.

A backend speaks in the labels printed on an Xbox pad (`PAD_CONTROLS`, sticks "left" and "right"); a `PadTranslator`
turns that into `PadEvent`s by one `PadProfile`. It has no clock and no device of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from scope_play.play.input.events import (
    CENTRE,
    MENU_BUTTONS,
    ButtonEvent,
    PadEvent,
    PadState,
    StickEvent,
    StickName,
    Vector,
)
from scope_play.play.input.shaping import StickShape, TriggerShape, shape_stick, trigger_pressed

TRIGGERS = ("left_trigger", "right_trigger")
PAD_CONTROLS = (
    *("a", "b", "x", "y", "left_shoulder", "right_shoulder", "left_stick", "right_stick", "back", "start", "guide"),
    *("dpad_up", "dpad_down", "dpad_left", "dpad_right"),
    *TRIGGERS,
)

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "fire": "right_trigger",
        "aim": "left_trigger",
        "jump": "south",
        "melee": "right_thumb",
        "reload": "west",
        "switch": "north",
    }
)
"""What players call the six game buttons, and the action column each one is."""

DEFAULT_PAD_BINDINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fire": ("right_trigger",),
        "aim": ("left_trigger",),
        "jump": ("a",),
        "melee": ("right_stick",),
        "reload": ("x",),
        "switch": ("y",),
    }
)


@dataclass(frozen=True, slots=True)
class Device:
    """A thing to play with. `key` is unique among those plugged in; `guid` is what settings know it by."""

    key: str
    name: str
    guid: str
    backend: str


@dataclass(frozen=True, slots=True)
class RawButton:
    """An edge of one of `PAD_CONTROLS` other than a trigger."""

    t: float
    device: Device
    control: str
    pressed: bool


@dataclass(frozen=True, slots=True)
class RawTrigger:
    """A trigger pulled to `value` in [0, 1]."""

    t: float
    device: Device
    control: str
    value: float


@dataclass(frozen=True, slots=True)
class RawStick:
    """A stick at (x, y) in [-1, 1]^2, right and down positive, unshaped. Both axes of one report come together."""

    t: float
    device: Device
    control: StickName
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Plugged:
    """A device can be used from now on."""

    t: float
    device: Device


@dataclass(frozen=True, slots=True)
class Unplugged:
    """A device is gone."""

    t: float
    device: Device


@dataclass(frozen=True, slots=True)
class Unusable:
    """A device was found that cannot be used; `reason` is one sentence for the player."""

    t: float
    reason: str


RawEvent = RawButton | RawTrigger | RawStick | Plugged | Unplugged | Unusable


@dataclass(frozen=True)
class PadProfile:
    """How one pad plays: which controls make which action, and how sticks and triggers are shaped.

    `left` and `right` shape the physical sticks. With `swap_sticks` the right one moves and the left one looks.
    """

    bindings: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_PAD_BINDINGS)
    left: StickShape = field(default_factory=StickShape)
    right: StickShape = field(default_factory=lambda: StickShape(curve=1.5))
    triggers: TriggerShape = field(default_factory=TriggerShape)
    swap_sticks: bool = False


class PadTranslator:
    """One pad's held controls, and the game events that follow when they change."""

    def __init__(self, device: Device, profile: PadProfile) -> None:
        self.device = device
        self.profile = profile
        self._held: set[str] = set()
        self._stale: set[str] = set()  # triggers still pulled from before everything was let go
        self._raw_sticks: dict[StickName, Vector] = {"left": CENTRE, "right": CENTRE}
        self._raw_triggers = dict.fromkeys(TRIGGERS, 0.0)
        self.state = self._state()

    def feed(self, raw: RawButton | RawTrigger | RawStick) -> list[PadEvent]:
        """What changes for the game. Updates `state`."""
        if isinstance(raw, RawStick):
            self._raw_sticks[raw.control] = (raw.x, raw.y)
        elif isinstance(raw, RawTrigger):
            self._raw_triggers[raw.control] = raw.value
            was_pressed = raw.control in self._held or raw.control in self._stale
            pressed = trigger_pressed(raw.value, was_pressed, self.profile.triggers)
            if not pressed:
                self._stale.discard(raw.control)
            self._hold(raw.control, pressed and raw.control not in self._stale)
        else:
            self._hold(raw.control, raw.pressed)
        return self._change(raw.t)

    def reset(self) -> None:
        """Forget everything held, without events: the window lost the focus."""
        self._stale |= self._held.intersection(TRIGGERS)
        self._held.clear()
        self._raw_sticks = {"left": CENTRE, "right": CENTRE}
        self._raw_triggers = dict.fromkeys(TRIGGERS, 0.0)
        self.state = self._state()

    def use(self, profile: PadProfile, t: float) -> list[PadEvent]:
        """Go on with another profile; what is held is read anew by it."""
        self.profile = profile
        return self._change(t)

    def _hold(self, control: str, pressed: bool) -> None:
        if pressed:
            self._held.add(control)
        else:
            self._held.discard(control)

    def _state(self) -> PadState:
        left = shape_stick(self._raw_sticks["left"], self.profile.left)
        right = shape_stick(self._raw_sticks["right"], self.profile.right)
        if self.profile.swap_sticks:
            left, right = right, left
        pressed = {
            ACTIONS[action]: not self._held.isdisjoint(controls) for action, controls in self.profile.bindings.items()
        }
        return PadState(
            **pressed,
            **{name: name in self._held for name in MENU_BUTTONS},
            left=left,
            right=right,
            triggers=(self._raw_triggers["left_trigger"], self._raw_triggers["right_trigger"]),
            source=self.device.name,
            guid=self.device.guid,
            connected=True,
        )

    def _change(self, t: float) -> list[PadEvent]:
        before, self.state = self.state, self._state()
        return changes(before, self.state, t)


def changes(before: PadState, after: PadState, t: float) -> list[PadEvent]:
    """The events at time `t` that lead from one state to the other."""
    events: list[PadEvent] = [
        ButtonEvent(t, name, getattr(after, name))
        for name in (*ACTIONS.values(), *MENU_BUTTONS)
        if getattr(after, name) != getattr(before, name)
    ]
    if after.left != before.left:
        events.append(StickEvent(t, "left", *after.left))
    if after.right != before.right:
        events.append(StickEvent(t, "right", *after.right))
    return events
