"""Gamepads through SDL's controller API, the default: SDL knows the pads, normalises them, and hot-plugs.

The app owns the pygame event queue and hands each batch of events to `SdlPads.read`; SDL delivers nothing between
two pumps, so the app pumps at 120 Hz or more.
"""

from __future__ import annotations

from collections.abc import Iterable

import pygame
from pygame._sdl2 import controller

from scope_play.play.input.events import StickName
from scope_play.play.input.translator import (
    Device,
    Plugged,
    RawButton,
    RawEvent,
    RawStick,
    RawTrigger,
    Unplugged,
    Unusable,
)

BUTTON_CONTROLS: dict[int, str] = {
    pygame.CONTROLLER_BUTTON_A: "a",
    pygame.CONTROLLER_BUTTON_B: "b",
    pygame.CONTROLLER_BUTTON_X: "x",
    pygame.CONTROLLER_BUTTON_Y: "y",
    pygame.CONTROLLER_BUTTON_BACK: "back",
    pygame.CONTROLLER_BUTTON_GUIDE: "guide",
    pygame.CONTROLLER_BUTTON_START: "start",
    pygame.CONTROLLER_BUTTON_LEFTSTICK: "left_stick",
    pygame.CONTROLLER_BUTTON_RIGHTSTICK: "right_stick",
    pygame.CONTROLLER_BUTTON_LEFTSHOULDER: "left_shoulder",
    pygame.CONTROLLER_BUTTON_RIGHTSHOULDER: "right_shoulder",
    pygame.CONTROLLER_BUTTON_DPAD_UP: "dpad_up",
    pygame.CONTROLLER_BUTTON_DPAD_DOWN: "dpad_down",
    pygame.CONTROLLER_BUTTON_DPAD_LEFT: "dpad_left",
    pygame.CONTROLLER_BUTTON_DPAD_RIGHT: "dpad_right",
}
TRIGGER_CONTROLS: dict[int, str] = {
    pygame.CONTROLLER_AXIS_TRIGGERLEFT: "left_trigger",
    pygame.CONTROLLER_AXIS_TRIGGERRIGHT: "right_trigger",
}
STICK_AXES: dict[int, tuple[StickName, int]] = {
    pygame.CONTROLLER_AXIS_LEFTX: ("left", 0),
    pygame.CONTROLLER_AXIS_LEFTY: ("left", 1),
    pygame.CONTROLLER_AXIS_RIGHTX: ("right", 0),
    pygame.CONTROLLER_AXIS_RIGHTY: ("right", 1),
}
AXIS_MAX = 32767


class _Pad:
    """An open controller. SDL reports stick axes one by one; `pending` holds a report until both are known."""

    def __init__(self, device: Device, handle: controller.Controller) -> None:
        self.device = device
        self.handle = handle
        self.sticks: dict[StickName, list[float]] = {"left": [0.0, 0.0], "right": [0.0, 0.0]}
        self.pending: dict[StickName, set[int]] = {"left": set(), "right": set()}

    def move(self, stick: StickName, axis: int, value: float, t: float) -> list[RawStick]:
        """Note one axis. A second value for the same axis means that a new report has begun: hand out the old one."""
        done = self.flush(t, stick) if axis in self.pending[stick] else []
        self.sticks[stick][axis] = value
        self.pending[stick].add(axis)
        return done

    def flush(self, t: float, *sticks: StickName) -> list[RawStick]:
        events: list[RawStick] = []
        for stick in sticks or self.pending:
            if self.pending[stick]:
                self.pending[stick].clear()
                x, y = self.sticks[stick]
                events.append(RawStick(t, self.device, stick, x, y))
        return events


class SdlPads:
    """Every controller SDL knows. `read` turns a batch of pygame events into raw events."""

    def __init__(self) -> None:
        pygame.joystick.init()
        controller.init()
        self._pads: dict[int, _Pad] = {}
        self._scanned = False

    def read(self, events: Iterable[pygame.event.Event], t: float) -> list[RawEvent]:
        """Raw events for one batch, all stamped `t`; events that are not a pad's are passed over."""
        found: list[RawEvent] = []
        if not self._scanned:  # pads plugged in before anybody listened: their event may have been thrown away
            self._scanned = True
            for index in range(pygame.joystick.get_count()):
                if controller.is_controller(index):
                    found += self._added(index, t)
        for event in events:
            if event.type == pygame.CONTROLLERDEVICEADDED:
                found += self._added(event.device_index, t)
            elif event.type == pygame.JOYDEVICEADDED:
                found += self._joystick_added(event.device_index, t)
            elif event.type == pygame.CONTROLLERDEVICEREMOVED:
                found += self._removed(event.instance_id, t)
            elif event.type in (pygame.CONTROLLERAXISMOTION, pygame.CONTROLLERBUTTONDOWN, pygame.CONTROLLERBUTTONUP):
                pad = self._pads.get(event.instance_id)
                if pad is not None:
                    found += self._control(pad, event, t)
        for pad in self._pads.values():
            found += pad.flush(t)
        return found

    def sample(self, t: float) -> list[RawStick]:
        """Where every stick stands, for coming back from a pause: a stick held still sends no event."""
        found: list[RawStick] = []
        for pad in self._pads.values():
            for axis, (stick, index) in STICK_AXES.items():
                pad.move(stick, index, _unit(pad.handle.get_axis(axis)), t)
            found += pad.flush(t)
        return found

    def close(self) -> None:
        """Let go of every pad."""
        for pad in self._pads.values():
            pad.handle.quit()
        self._pads.clear()

    def _added(self, index: int, t: float) -> list[RawEvent]:
        try:
            handle = controller.Controller(index)
        except pygame.error as error:
            return [
                Unusable(t, f"A pad was plugged in but cannot be opened ({error}): unplug it and plug it in again.")
            ]
        joystick = handle.as_joystick()
        instance_id = joystick.get_instance_id()  # handle.id is the index, which other pads inherit
        if instance_id in self._pads:
            return []
        device = Device(f"sdl:{instance_id}", handle.name or "Unnamed pad", joystick.get_guid(), "sdl")
        self._pads[instance_id] = _Pad(device, handle)
        return [Plugged(t, device)]

    def _joystick_added(self, index: int, t: float) -> list[RawEvent]:
        try:
            if controller.is_controller(index):
                return []
            name = pygame.joystick.Joystick(index).get_name()
        except pygame.error:
            return []  # gone again before it was looked at
        return [
            Unusable(
                t,
                f"{name} is plugged in but SDL has no button mapping for it: make one in Steam or with "
                "`antimicrox` and set SDL_GAMECONTROLLERCONFIG, or try `--gamepad inputs`.",
            )
        ]

    def _removed(self, instance_id: int, t: float) -> list[RawEvent]:
        pad = self._pads.pop(instance_id, None)
        if pad is None:
            return []
        pad.handle.quit()
        return [Unplugged(t, pad.device)]

    def _control(self, pad: _Pad, event: pygame.event.Event, t: float) -> list[RawEvent]:
        if event.type == pygame.CONTROLLERAXISMOTION:
            if event.axis in STICK_AXES:
                stick, index = STICK_AXES[event.axis]
                return [*pad.move(stick, index, _unit(event.value), t)]
            if event.axis in TRIGGER_CONTROLS:
                return [RawTrigger(t, pad.device, TRIGGER_CONTROLS[event.axis], max(0.0, _unit(event.value)))]
            return []
        if event.button not in BUTTON_CONTROLS:
            return []
        pressed = event.type == pygame.CONTROLLERBUTTONDOWN
        return [RawButton(t, pad.device, BUTTON_CONTROLS[event.button], pressed)]


def _unit(counts: int) -> float:
    """An int16 axis as [-1, 1]."""
    return max(-1.0, counts / AXIS_MAX)
