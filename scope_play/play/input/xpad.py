"""What the `inputs` library's event codes mean on an Xbox pad, which depends on the system.

The library passes on what the Linux driver says, or imitates it on Windows, with differences: X and Y are exchanged,
Start and Back too, and a stick pushed up is negative on Linux and positive on Windows. Over Bluetooth, and for other
makers' pads, Linux has other ranges, and other axes for the right stick and the triggers: `Ranges` tells them apart.
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
LEFT_STICK: Mapping[str, tuple[StickName, int]] = MappingProxyType({"ABS_X": ("left", 0), "ABS_Y": ("left", 1)})

STICK_RANGE = (-32767, 32767)
TRIGGER_MAX_360 = 255
TRIGGER_MAX_ONE = 1023
Ranges = Mapping[str, tuple[int, int]]
"""The least and the greatest value of each axis that a pad has, by the axis's name; empty where nobody tells."""

ONE_NAMES = ("x-box one", "xbox one", "xbox series", "xbox wireless")


class XpadDecoder:
    """Turns one pad's codes and values into raw events. Stick axes come out together, when a report ends."""

    def __init__(self, device: Device, *, windows: bool, ranges: Ranges = MappingProxyType({})) -> None:
        self.device = device
        self._windows = windows
        self._buttons = {**BUTTONS_EVERYWHERE, **(BUTTONS_WINDOWS if windows else BUTTONS_LINUX)}
        is_one = not windows and any(name in device.name.lower() for name in ONE_NAMES)
        self._trigger_max = TRIGGER_MAX_ONE if is_one else TRIGGER_MAX_360
        self._ranges = ranges
        right = ("ABS_RX", "ABS_RY") if "ABS_RX" in ranges or not ranges else ("ABS_Z", "ABS_RZ")
        pulled = ("ABS_BRAKE", "ABS_GAS") if "ABS_GAS" in ranges else ("ABS_Z", "ABS_RZ")
        self._axes = {**LEFT_STICK, right[0]: ("right", 0), right[1]: ("right", 1)}
        self._triggers = dict(zip(pulled, ("left_trigger", "right_trigger"), strict=True))
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
        if code in self._axes:
            self._move(*self._axes[code], value, self._ranges.get(code, STICK_RANGE))
        elif code in self._triggers:
            if value > self._trigger_max:
                self._trigger_max = TRIGGER_MAX_ONE
            low, high = self._ranges.get(code, (0, self._trigger_max))
            pulled = min(1.0, max(0.0, (value - low) / (high - low)))
            return [RawTrigger(t, self.device, self._triggers[code], pulled)]
        elif code in HATS:
            return self._hat(t, code, value)
        return []

    def sample(self, t: float) -> list[RawStick]:
        """Where both sticks stand."""
        return [RawStick(t, self.device, stick, *position) for stick, position in self._sticks.items()]

    def _move(self, stick: StickName, axis: int, value: int, limits: tuple[int, int]) -> None:
        low, high = limits
        place = max(-1.0, min(1.0, (2 * value - low - high) / (high - low)))
        self._sticks[stick][axis] = -place if self._windows and axis == 1 else place
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
