"""Keyboard and mouse as a pad: keys become buttons and full stick deflections, the mouse turns.

Mouse motion is relative and becomes `LookEvent`s: `mouse_pixels` of travel within one frame (1/20 s) are one full
right-stick frame, so the turn depends on the distance travelled and not on how often the screen is drawn. Every
motion event counts; the timeline adds them up by frame and lets what exceeds a full stick die down (timeline.py).

A key that writes a character is known by its place, under the name it has on a US keyboard: "w" is the key above "s" in
every layout. Other keys are known by what they do, so that Control and Caps Lock may be exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import cast

import pygame

from scope_play.play.input.events import LookEvent, PadEvent, PadState, StickName, Vector, into_disc
from scope_play.play.input.translator import ACTIONS, Device, changes

DIRECTIONS: Mapping[str, tuple[StickName, Vector]] = MappingProxyType(
    {
        "forward": ("left", (0.0, -1.0)),
        "backward": ("left", (0.0, 1.0)),
        "strafe_left": ("left", (-1.0, 0.0)),
        "strafe_right": ("left", (1.0, 0.0)),
        "look_up": ("right", (0.0, -1.0)),
        "look_down": ("right", (0.0, 1.0)),
        "look_left": ("right", (-1.0, 0.0)),
        "look_right": ("right", (1.0, 0.0)),
    }
)
"""Actions that push a stick: which one, and where to."""

KEY_ACTIONS = (*ACTIONS, *DIRECTIONS)

DEFAULT_KEY_BINDINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fire": ("mouse_left",),
        "aim": ("mouse_right",),
        "jump": ("space",),
        "melee": ("f", "mouse_middle"),
        "reload": ("r",),
        "switch": ("q", "wheel_up", "wheel_down"),
        "forward": ("w",),
        "backward": ("s",),
        "strafe_left": ("a",),
        "strafe_right": ("d",),
        "look_up": ("up",),
        "look_down": ("down",),
        "look_left": ("left",),
        "look_right": ("right",),
    }
)

MENU_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "escape": "start",
        "backspace": "back",
        "return": "a",
        "up": "dpad_up",
        "down": "dpad_down",
        "left": "dpad_left",
        "right": "dpad_right",
    }
)
"""Keys that are menu buttons whatever else they are bound to."""

MOUSE_BUTTONS: Mapping[int, str] = MappingProxyType(
    {1: "mouse_left", 2: "mouse_middle", 3: "mouse_right", 6: "mouse_x1", 7: "mouse_x2"}
)
WHEEL = ("wheel_up", "wheel_down")

PLACES: Mapping[int, str] = MappingProxyType(
    {
        **{getattr(pygame, f"KSCAN_{key.upper()}"): key for key in "abcdefghijklmnopqrstuvwxyz0123456789"},
        **{pygame.KSCAN_MINUS: "minus", pygame.KSCAN_EQUALS: "equals", pygame.KSCAN_BACKSLASH: "backslash"},
        **{pygame.KSCAN_LEFTBRACKET: "leftbracket", pygame.KSCAN_RIGHTBRACKET: "rightbracket"},
        **{pygame.KSCAN_SEMICOLON: "semicolon", pygame.KSCAN_APOSTROPHE: "quote", pygame.KSCAN_GRAVE: "backquote"},
        **{pygame.KSCAN_COMMA: "comma", pygame.KSCAN_PERIOD: "period", pygame.KSCAN_SLASH: "slash"},
        **{pygame.KSCAN_NONUSBACKSLASH: "less", pygame.KSCAN_NONUSHASH: "hash"},
    }
)
"""Keys that write a character, by scancode: what they are called on a US keyboard, the last two on others."""

LAST_CHARACTER = 0x7FF
"""Unicode up to Arabic: the characters on the caps of the alphabetic layouts."""


@dataclass(frozen=True)
class KeyProfile:
    """What the keys do, how far the mouse turns, and how hard the look keys push (0..1]."""

    bindings: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_KEY_BINDINGS)
    mouse_pixels: float = 40.0
    mouse_invert_y: bool = False
    look_speed: float = 0.6


@lru_cache(maxsize=1)
def key_names() -> Mapping[int, str]:
    """pygame's key codes by name: `K_LSHIFT` is "lshift"."""
    names: dict[int, str] = {}
    for constant in sorted(dir(pygame)):
        if constant.startswith("K_"):
            names.setdefault(getattr(pygame, constant), constant.removeprefix("K_").lower())
    return MappingProxyType(names)


def caps_of_layout() -> Mapping[str, str]:
    """What the layout in use writes on the keys of `PLACES`, by their names; without a window nothing is known."""
    scancode_of = pygame.key.ScancodeWrapper(cast("tuple[bool, ...]", tuple(range(pygame.KSCAN_RGUI + 1))))
    found: dict[str, str] = {}
    for character in map(chr, range(ord("!"), LAST_CHARACTER)):
        try:
            name = PLACES.get(scancode_of[ord(character)])
        except IndexError:
            continue
        if name:
            found.setdefault(name, character.upper())
    return found


def control_names() -> tuple[str, ...]:
    """Every key, mouse button and wheel direction that can be bound."""
    return (*key_names().values(), *MOUSE_BUTTONS.values(), *WHEEL)


def reserved_names() -> tuple[str, ...]:
    """Keys that cannot be bound: those that open, confirm and leave menus, and the app's own function keys."""
    return ("escape", "backspace", "return", *(f"f{number}" for number in range(1, 16)))


class KeyboardMouse:
    """The keyboard and mouse as one device."""

    device = Device(key="keyboard", name="keyboard and mouse", guid="keyboard", backend="keyboard")

    def __init__(self, profile: KeyProfile) -> None:
        self.profile = profile
        self._held: set[str] = set()
        self.state = self._state()

    def feed(self, event: pygame.event.Event, t: float) -> list[PadEvent]:
        """What one pygame event changes for the game. Events that are not keys or mouse change nothing."""
        if event.type in (pygame.KEYDOWN, pygame.KEYUP):
            name = self._name(event.key, getattr(event, "scancode", pygame.KSCAN_UNKNOWN))
            return self._hold(name, event.type == pygame.KEYDOWN, t) if name else []
        if event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP):
            name = MOUSE_BUTTONS.get(event.button)
            return self._hold(name, event.type == pygame.MOUSEBUTTONDOWN, t) if name else []
        if event.type == pygame.MOUSEWHEEL and event.y:
            notch = WHEEL[0] if event.y > 0 else WHEEL[1]
            return [*self._hold(notch, True, t), *self._hold(notch, False, t)]
        if event.type == pygame.MOUSEMOTION:
            dx, dy = event.rel
            sign = -1.0 if self.profile.mouse_invert_y else 1.0
            return [LookEvent(t, dx / self.profile.mouse_pixels, sign * dy / self.profile.mouse_pixels)]
        return []

    def reset(self) -> None:
        """Forget everything held: the window lost the focus, and the releases will go elsewhere."""
        self._held.clear()
        self.state = self._state()

    def use(self, profile: KeyProfile, t: float) -> list[PadEvent]:
        """Go on with another profile; what is held is read anew by it."""
        self.profile = profile
        return self._change(t)

    def _name(self, code: int, scancode: int) -> str | None:
        """A key's name by its place, unless its code says that it writes nothing, or that it is bound by a name that no
        place has, such as "exclaim"."""
        name, place = key_names().get(code) if code else None, PLACES.get(scancode)
        if place is None or name is None or name in PLACES.values():
            return place or name
        bound = any(name in controls for controls in self.profile.bindings.values())
        return name if bound or not ord("!") <= code <= LAST_CHARACTER else place

    def _hold(self, control: str, pressed: bool, t: float) -> list[PadEvent]:
        if pressed:
            self._held.add(control)
        else:
            self._held.discard(control)
        return self._change(t)

    def _change(self, t: float) -> list[PadEvent]:
        before, self.state = self.state, self._state()
        return changes(before, self.state, t)

    def _state(self) -> PadState:
        active = {action for action, controls in self.profile.bindings.items() if not self._held.isdisjoint(controls)}
        look_x, look_y = into_disc(self._push("right", active))
        held = {column: action in active for action, column in ACTIONS.items()}
        menus = {button: key in self._held for key, button in MENU_KEYS.items()}
        return PadState(
            **held,
            **menus,
            left=into_disc(self._push("left", active)),
            right=(look_x * self.profile.look_speed, look_y * self.profile.look_speed),
            triggers=(float("aim" in active), float("fire" in active)),
            source=self.device.name,
            guid=self.device.guid,
            connected=True,
        )

    @staticmethod
    def _push(stick: StickName, active: set[str]) -> Vector:
        """Opposite keys cancel; two at a right angle push diagonally."""
        pushes = [DIRECTIONS[action][1] for action in active if action in DIRECTIONS and DIRECTIONS[action][0] == stick]
        return (math.fsum(x for x, _ in pushes), math.fsum(y for _, y in pushes))
