"""What the `inputs` library's event codes mean on an Xbox pad, which depends on the system.

The library passes on what the Linux driver says, or imitates it on Windows, with differences: X and Y are exchanged,
Start and Back too, and a stick pushed up is negative on Linux and positive on Windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scope_play.play.input.events import StickName
from scope_play.play.input.translator import Device, RawButton, RawEvent, RawStick, RawTrigger

BUTTONS_EVERYWHERE: Mapping[str, str] = MappingProxyType(
    {
        "BTN_SOUTH": "a",
        "BTN_EAST": "b",
        "BTN_TL": "left_shoulder",
        "BTN_TR": "right_shoulder",
        "BTN_THUMBL": "left_stick",
        "BTN_THUMBR": "right_stick",
        "BTN_MODE": "guide",
        "BTN_DPAD_UP": "dpad_up",
        "BTN_DPAD_DOWN": "dpad_down",
        "BTN_DPAD_LEFT": "dpad_left",
        "BTN_DPAD_RIGHT": "dpad_right",
        "BTN_TRIGGER_HAPPY1": "dpad_left",
        "BTN_TRIGGER_HAPPY2": "dpad_right",
        "BTN_TRIGGER_HAPPY3": "dpad_up",
        "BTN_TRIGGER_HAPPY4": "dpad_down",
    }
)
BUTTONS_LINUX: Mapping[str, str] = MappingProxyType(
    {"BTN_NORTH": "x", "BTN_WEST": "y", "BTN_SELECT": "back", "BTN_START": "start"}
)
BUTTONS_WINDOWS: Mapping[str, str] = MappingProxyType(
    {"BTN_NORTH": "y", "BTN_WEST": "x", "BTN_SELECT": "start", "BTN_START": "back"}
)
HATS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"ABS_HAT0X": ("dpad_left", "dpad_right"), "ABS_HAT0Y": ("dpad_up", "dpad_down")}
)
STICKS: Mapping[str, tuple[StickName, int]] = MappingProxyType(
    {"ABS_X": ("left", 0), "ABS_Y": ("left", 1), "ABS_RX": ("right", 0), "ABS_RY": ("right", 1)}
)
TRIGGERS: Mapping[str, str] = MappingProxyType({"ABS_Z": "left_trigger", "ABS_RZ": "right_trigger"})

STICK_MAX = 32767
TRIGGER_MAX_360 = 255
TRIGGER_MAX_ONE = 1023
ONE_NAMES = ("x-box one", "xbox one", "xbox series", "xbox wireless")


class XpadDecoder:
    """Turns one pad's codes and values into raw events. Stick axes come out together, when a report ends."""

    def __init__(self, device: Device, *, windows: bool) -> None:
        self.device = device
        self._windows = windows
        self._buttons = {**BUTTONS_EVERYWHERE, **(BUTTONS_WINDOWS if windows else BUTTONS_LINUX)}
        is_one = not windows and any(name in device.name.lower() for name in ONE_NAMES)
        self._trigger_max = TRIGGER_MAX_ONE if is_one else TRIGGER_MAX_360
        self._sticks: dict[StickName, list[float]] = {"left": [0.0, 0.0], "right": [0.0, 0.0]}
        self._moved: list[StickName] = []
        self._hats: dict[str, int] = dict.fromkeys(HATS, 0)

    def feed(self, t: float, code: str, value: int) -> list[RawEvent]:
        """What one event of the library means; nothing for codes an Xbox pad does not have."""
        if code == "SYN_REPORT":
            moved, self._moved = self._moved, []
            return [RawStick(t, self.device, stick, *self._sticks[stick]) for stick in moved]
        if code in self._buttons:
            return [RawButton(t, self.device, self._buttons[code], bool(value))]
        if code in STICKS:
            self._move(*STICKS[code], value)
        elif code in TRIGGERS:
            if value > self._trigger_max:
                self._trigger_max = TRIGGER_MAX_ONE
            return [RawTrigger(t, self.device, TRIGGERS[code], min(1.0, max(0, value) / self._trigger_max))]
        elif code in HATS:
            return self._hat(t, code, value)
        return []

    def sample(self, t: float) -> list[RawStick]:
        """Where both sticks stand."""
        return [RawStick(t, self.device, stick, *position) for stick, position in self._sticks.items()]

    def _move(self, stick: StickName, axis: int, value: int) -> None:
        up_is_positive = self._windows and axis == 1
        self._sticks[stick][axis] = max(-1.0, min(1.0, (-value if up_is_positive else value) / STICK_MAX))
        if stick not in self._moved:
            self._moved.append(stick)

    def _hat(self, t: float, code: str, value: int) -> list[RawEvent]:
        """A d-pad axis, -1, 0 or 1: the direction it leaves is released, the one it enters is pressed."""
        before, self._hats[code] = self._hats[code], value
        low, high = HATS[code]
        return [
            RawButton(t, self.device, control, value == end)
            for control, end in ((low, -1), (high, 1))
            if (before == end) != (value == end)
        ]
