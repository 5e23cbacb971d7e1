"""A virtual Xbox pad inside SDL, for measurements and tests on machines without one.

SDL can attach a joystick that exists only in memory; pygame does not wrap that call, so it is reached through
ctypes in the very library pygame has loaded. The pad then takes the same road as a real one: plug event, mapping,
controller events, unplug event.

    with VirtualPad() as pad:
        pad.set_button("a", True)
        pad.set_axis("left_y", -1.0)
        events = pygame.event.get()

SDL keeps only the newest state between two pumps: call `pygame.event.pump()` (or `get()`) between a press and its
release if both must arrive. Setting is allowed in any thread, attaching and detaching in the one that owns the window.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import TracebackType

import pygame
from pygame._sdl2 import controller

from scope_play.errors import ScopeError

_BUTTON_ORDER = (
    *("a", "b", "x", "y", "back", "guide", "start", "left_stick", "right_stick", "left_shoulder", "right_shoulder"),
    *("dpad_up", "dpad_down", "dpad_left", "dpad_right"),
)
BUTTONS = {name: number for number, name in enumerate(_BUTTON_ORDER)}
AXES = {"left_x": 0, "left_y": 1, "right_x": 2, "right_y": 3, "left_trigger": 4, "right_trigger": 5}
TRIGGERS = ("left_trigger", "right_trigger")

GAME_CONTROLLER = 1
UNKNOWN_JOYSTICK = 0


class _Description(ctypes.Structure):
    """`SDL_VirtualJoystickDesc`, version 1 (SDL_joystick.h)."""

    _fields_ = (
        ("version", ctypes.c_uint16),
        ("type", ctypes.c_uint16),
        ("naxes", ctypes.c_uint16),
        ("nbuttons", ctypes.c_uint16),
        ("nhats", ctypes.c_uint16),
        ("vendor_id", ctypes.c_uint16),
        ("product_id", ctypes.c_uint16),
        ("padding", ctypes.c_uint16),
        ("button_mask", ctypes.c_uint32),
        ("axis_mask", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("userdata", ctypes.c_void_p),
        ("Update", ctypes.c_void_p),
        ("SetPlayerIndex", ctypes.c_void_p),
        ("Rumble", ctypes.c_void_p),
        ("RumbleTriggers", ctypes.c_void_p),
        ("SetLED", ctypes.c_void_p),
        ("SendEffect", ctypes.c_void_p),
    )


def _library_path() -> Path:
    """The SDL2 that pygame loaded: another copy would have its own, empty list of devices."""
    maps = Path("/proc/self/maps")
    if maps.exists():
        for line in maps.read_text().splitlines():
            path = Path(line.split(maxsplit=5)[-1])
            if path.name.startswith(("libSDL2-2", "libSDL2.so")):
                return path
    package = Path(pygame.__file__).parent
    for pattern in ("SDL2.dll", ".dylibs/libSDL2-2*.dylib", "../pygame_ce.libs/libSDL2-2*.so*"):
        for path in package.glob(pattern):
            return path
    raise ScopeError(f"no SDL2 library is found beside {package} on {sys.platform}; install the pygame-ce wheel.")


def _library() -> ctypes.CDLL:
    sdl = ctypes.CDLL(str(_library_path()))
    sdl.SDL_JoystickAttachVirtualEx.argtypes = [ctypes.POINTER(_Description)]
    sdl.SDL_JoystickOpen.argtypes = [ctypes.c_int]
    sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
    sdl.SDL_JoystickClose.argtypes = [ctypes.c_void_p]
    sdl.SDL_JoystickInstanceID.argtypes = [ctypes.c_void_p]
    sdl.SDL_JoystickGetDeviceInstanceID.argtypes = [ctypes.c_int]
    sdl.SDL_JoystickSetVirtualAxis.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int16]
    sdl.SDL_JoystickSetVirtualButton.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8]
    sdl.SDL_JoystickDetachVirtual.argtypes = [ctypes.c_int]
    sdl.SDL_GetError.restype = ctypes.c_char_p
    return sdl


class VirtualPad:
    """One virtual pad; attached on construction, detached by `detach()` or on leaving the `with` block.

    `mapped=False` makes a joystick that SDL has no controller mapping for. pygame's display and joystick modules and
    `pygame._sdl2.controller` must be initialised; this initialises the last two if they are not.
    """

    def __init__(
        self,
        name: str = "Virtual Xbox Pad",
        *,
        vendor_id: int = 0x045E,
        product_id: int = 0x028E,
        mapped: bool = True,
    ) -> None:
        if not pygame.joystick.get_init():
            pygame.joystick.init()
        if not controller.get_init():
            controller.init()
        self.name = name
        self._sdl = _library()
        self._name = name.encode()  # SDL reads it only while attaching, but ctypes would let it go sooner
        description = _Description(
            version=1,
            type=GAME_CONTROLLER if mapped else UNKNOWN_JOYSTICK,
            naxes=len(AXES),
            nbuttons=len(BUTTONS),
            vendor_id=vendor_id,
            product_id=product_id,
            button_mask=(1 << len(BUTTONS)) - 1,
            axis_mask=(1 << len(AXES)) - 1,
            name=self._name,
        )
        index = self._sdl.SDL_JoystickAttachVirtualEx(ctypes.byref(description))
        if index < 0:
            raise ScopeError(f"SDL gives no virtual pad ({self._sdl.SDL_GetError().decode()}); install pygame-ce.")
        self._joystick: int | None = self._sdl.SDL_JoystickOpen(index)
        self.instance_id: int = self._sdl.SDL_JoystickInstanceID(self._joystick)
        for trigger in TRIGGERS:
            self.set_axis(trigger, 0.0)

    def set_axis(self, axis: str, value: float) -> None:
        """Sticks take -1..1 (right and down positive), triggers 0..1. Seen by SDL at its next pump."""
        raw = 2.0 * value - 1.0 if axis in TRIGGERS else value
        counts = max(-32768, min(32767, round(raw * (32768 if raw < 0 else 32767))))
        self._check(self._sdl.SDL_JoystickSetVirtualAxis(self._joystick, AXES[axis], counts))

    def set_button(self, button: str, pressed: bool) -> None:
        """Press or release one of `BUTTONS`. Seen by SDL at its next pump."""
        self._check(self._sdl.SDL_JoystickSetVirtualButton(self._joystick, BUTTONS[button], int(pressed)))

    def detach(self) -> None:
        """Pull the plug. Does nothing the second time."""
        if self._joystick is None:
            return
        for index in range(pygame.joystick.get_count()):
            if self._sdl.SDL_JoystickGetDeviceInstanceID(index) == self.instance_id:
                self._check(self._sdl.SDL_JoystickDetachVirtual(index))
                break
        self._sdl.SDL_JoystickClose(self._joystick)
        self._joystick = None

    def __enter__(self) -> VirtualPad:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def _check(self, status: int) -> None:
        if status < 0:
            raise RuntimeError(self._sdl.SDL_GetError().decode())
