"""Every input device behind one interface: the device used last plays, and the app needs to know no other.

Once per turn of its loop (120 Hz or more) the app calls `Devices.read(events, now)` with everything from pygame's queue
and gets `Input`s in order: `PadEvent`s for the action sampler and the menus, `Notice`s for the player. A device takes
over when a button of it is pressed or a stick pushed half way; what the other one held is let go. A pad that is plugged
in takes over by that alone as long as nobody has used the keyboard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import pygame

from scope_play.errors import ScopeError
from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.events import ButtonEvent, PadEvent, PadState, ReleaseEvent, StickEvent
from scope_play.play.input.inputs_library import InputsPads
from scope_play.play.input.keyboard import KeyboardMouse
from scope_play.play.input.scripted import ScriptedPad
from scope_play.play.input.sdl import SdlPads
from scope_play.play.input.translator import (
    Device,
    PadTranslator,
    Plugged,
    RawEvent,
    RawStick,
    Unplugged,
    Unusable,
    changes,
)

Backend = Literal["sdl", "inputs", "keyboard", "scripted"]
BACKENDS: tuple[Backend, ...] = ("sdl", "inputs", "keyboard", "scripted")

TAKE_OVER = 0.5  # a stick this far out means that somebody holds the device
NOTHING = PadState()


class Pads(Protocol):
    """A backend for pads."""

    def read(self, events: Iterable[pygame.event.Event], t: float) -> list[RawEvent]: ...
    def sample(self, t: float) -> list[RawStick]: ...
    def close(self) -> None: ...


class NoPads:
    """The backend of `--gamepad keyboard`."""

    def read(self, events: Iterable[pygame.event.Event], t: float) -> list[RawEvent]:
        return []

    def sample(self, t: float) -> list[RawStick]:
        return []

    def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the player should be told, in one sentence. `pause` if play cannot go on as it was."""

    t: float
    kind: Literal["plugged", "unplugged", "unusable"]
    text: str
    pause: bool = False


Input = PadEvent | Notice


def open_pads(backend: str, *, now: float, seed: int = 0) -> Pads:
    """The backend of that name. `now` and `seed` are when and what the scripted pad plays.

    Raises ScopeError for an unknown name, or if the `inputs` library cannot work on this machine.
    """
    if backend == "sdl":
        return SdlPads()
    if backend == "inputs":
        return InputsPads()
    if backend == "keyboard":
        return NoPads()
    if backend == "scripted":
        return ScriptedPad(start=now, seed=seed)
    raise ScopeError(f"--gamepad {backend} is not known: choose from {', '.join(BACKENDS)}.")


class Devices:
    """Every device, and which of them plays. Not thread-safe: one thread, the one that owns the pygame events."""

    def __init__(self, pads: Pads, controls: ControllerMap) -> None:
        self._pads = pads
        self._controls = controls
        self._keyboard = KeyboardMouse(controls.keys)
        self._translators: dict[str, PadTranslator] = {}
        self._active: KeyboardMouse | PadTranslator = self._keyboard
        self._chosen = False  # whether somebody has used the device that plays

    @property
    def state(self) -> PadState:
        """The newest state of the device in use."""
        return self._active.state

    @property
    def active(self) -> Device:
        """The device in use."""
        return self._active.device

    @property
    def devices(self) -> list[Device]:
        """Everything plugged in: the keyboard, then the pads."""
        return [self._keyboard.device, *(translator.device for translator in self._translators.values())]

    def read(self, events: Iterable[pygame.event.Event], now: float) -> list[Input]:
        """What one batch of pygame events, and the pads, bring; in order."""
        batch = list(events)
        result: list[Input] = []
        for event in batch:
            before = self._keyboard.state
            changed = self._keyboard.feed(event, now)
            result += self._from(self._keyboard, before, changed, now)
        for raw in self._pads.read(batch, now):
            result += self._raw(raw)
        return result

    def release_all(self, now: float) -> list[PadEvent]:
        """The window lost the focus: everything is let go, and stays so until it is pressed anew."""
        self._keyboard.reset()
        for translator in self._translators.values():
            translator.reset()
        return [ReleaseEvent(now)]

    def resume(self, now: float) -> list[PadEvent]:
        """Back from a pause or a lost focus: where the sticks stand now. Buttons wait until they are pressed anew."""
        for raw in self._pads.sample(now):
            translator = self._translators.get(raw.device.key)
            if translator is not None:
                translator.feed(raw)
        state = self.state
        return [StickEvent(now, "left", *state.left), StickEvent(now, "right", *state.right)]

    def use(self, controls: ControllerMap, now: float) -> list[PadEvent]:
        """Go on with another controller map, at once and for every device."""
        self._controls = controls
        changed = {self._keyboard.device.key: self._keyboard.use(controls.keys, now)}
        for key, translator in self._translators.items():
            profile = controls.for_pad(translator.device.guid, translator.device.name)
            changed[key] = translator.use(profile, now)
        return changed[self.active.key]

    def close(self) -> None:
        """Let go of every device."""
        self._pads.close()

    def _raw(self, raw: RawEvent) -> list[Input]:
        if isinstance(raw, Unusable):
            return [Notice(raw.t, "unusable", raw.reason)]
        if isinstance(raw, Plugged):
            profile = self._controls.for_pad(raw.device.guid, raw.device.name)
            plugged = self._translators[raw.device.key] = PadTranslator(raw.device, profile)
            if self._active is self._keyboard and not self._chosen:
                self._active = plugged
            return [Notice(raw.t, "plugged", f"{raw.device.name} is ready.")]
        if isinstance(raw, Unplugged):
            return self._unplugged(raw)
        translator = self._translators.get(raw.device.key)
        if translator is None:
            return []
        before = translator.state
        return self._from(translator, before, translator.feed(raw), raw.t)

    def _unplugged(self, raw: Unplugged) -> list[Input]:
        translator = self._translators.pop(raw.device.key, None)
        if translator is None:
            return []
        if translator is not self._active:
            return [Notice(raw.t, "unplugged", f"{raw.device.name} was unplugged.")]
        self._active, self._chosen = self._keyboard, False
        text = f"{raw.device.name} was unplugged: plug it in again, or go on with another device."
        return [ReleaseEvent(raw.t), Notice(raw.t, "unplugged", text, pause=True)]

    def _from(
        self, source: KeyboardMouse | PadTranslator, before: PadState, changed: list[PadEvent], t: float
    ) -> list[Input]:
        """The events of one source: passed on if it plays, or if it takes over with them."""
        used = any(takes_over(event, before) for event in changed)
        self._chosen = self._chosen or used
        if source is self._active:
            return list(changed)
        if not used:
            return []
        self._active = source
        return [ReleaseEvent(t), *changes(NOTHING, before, t), *changed]


def takes_over(event: PadEvent, before: PadState) -> bool:
    """Whether an event shows that a hand has gone to another device: a press, or a stick pushed half way out."""
    if isinstance(event, ButtonEvent):
        return event.pressed
    if isinstance(event, StickEvent):
        was = before.left if event.stick == "left" else before.right
        return math.hypot(event.x, event.y) >= TAKE_OVER > math.hypot(*was)
    return False
