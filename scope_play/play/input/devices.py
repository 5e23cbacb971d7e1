"""Every input device behind one interface: the device used last plays, and the app needs to know no other.

Once per turn of its loop (120 Hz or more) the app calls `Devices.read(events, now)` with everything from pygame's queue
and gets `Input`s in order: `PadEvent`s for the action sampler and the menus, `Notice`s for the player. A device takes
over when a button of it is pressed or a stick pushed half way; what the other one held is let go. A pad that is plugged
in takes over by that alone as long as nobody has used the keyboard.

One hand may show up twice: Steam adds a copy of a pad, or turns its buttons into keys. So a device that does what the
one that plays does, within `SAME_HAND`, does not take over, and a pad takes over from a pad only after so long.
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
    RawButton,
    RawEvent,
    RawStick,
    RawTrigger,
    Unplugged,
    Unusable,
)

Backend = Literal["sdl", "inputs", "keyboard", "scripted"]
BACKENDS: tuple[Backend, ...] = ("sdl", "inputs", "keyboard", "scripted")

TAKE_OVER = 0.5  # a stick this far out means that somebody holds the device
AWAY = 0.3  # of a stick or trigger: as far out as no resting or drifting one is
SAME_HAND = 0.1
"""Seconds between the two appearances of one press, at most."""


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
Source = KeyboardMouse | PadTranslator


@dataclass(slots=True)
class _Claim:
    """A pad that will play unless the one that plays turns out to do the same: how its sticks stood, what it did."""

    source: Source
    before: PadState
    t: float
    deeds: set[str]
    events: list[PadEvent]
    away: dict[str, bool]


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
        self._active: Source = self._keyboard
        self._chosen = False  # whether somebody has used the device that plays
        self._last: dict[str, float] = {}  # when the device that plays did what last, infinity while it does
        self._claim: _Claim | None = None

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
            result += self._from(self._keyboard, before, changed, now, {})
        for raw in self._pads.read(batch, now):
            result += self._raw(raw)
        if self._claim and now - self._claim.t >= SAME_HAND:
            result += self._take_over(self._claim)
        return result

    def release_all(self, now: float) -> list[PadEvent]:
        """The window lost the focus: everything is let go, and stays so until it is pressed anew."""
        self._keyboard.reset()
        for translator in self._translators.values():
            translator.reset()
        self._last, self._claim = {}, None
        return [ReleaseEvent(now)]

    def resume(self, now: float) -> list[PadEvent]:
        """Back from a pause or a lost focus: where the sticks stand now. Buttons wait until they are pressed anew."""
        for raw in self._pads.sample(now):
            translator = self._translators.get(raw.device.key)
            if translator is not None:
                translator.feed(raw)
        return standing(self.state, now)

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
        return self._from(translator, before, translator.feed(raw), raw.t, {raw.control: is_away(raw)})

    def _unplugged(self, raw: Unplugged) -> list[Input]:
        translator = self._translators.pop(raw.device.key, None)
        if translator is None:
            return []
        self._claim = None
        if translator is not self._active:
            return [Notice(raw.t, "unplugged", f"{raw.device.name} was unplugged.")]
        self._active, self._chosen, self._last = self._keyboard, False, {}
        text = f"{raw.device.name} was unplugged: plug it in again, or go on with another device."
        return [ReleaseEvent(raw.t), *standing(self.state, raw.t), Notice(raw.t, "unplugged", text, pause=True)]

    def _from(
        self, source: Source, before: PadState, changed: list[PadEvent], t: float, away: dict[str, bool]
    ) -> list[Input]:
        """The events of one source: passed on if it plays, or if it takes over with them. `away` says of the pad's own
        control whether it is away from rest."""
        deeds = {name for event in changed if (name := deed(event, before))}
        if source is self._active:
            self._chosen = self._chosen or bool(deeds)
            self._note(changed, t, away)
            if self._claim and self._did(self._claim.deeds, t):
                self._claim = None
            return list(changed)
        claim = self._claim
        if claim and claim.source is source:
            claim.events += changed
            claim.deeds |= deeds
            claim.away |= away
        elif deeds and not self._did(deeds | away.keys(), t):
            claim = _Claim(source, before, t, deeds | away.keys(), list(changed), away)
            if self._keyboard in (source, self._active):
                return self._take_over(claim)
            self._claim = claim
        return []

    def _take_over(self, claim: _Claim) -> list[Input]:
        """Sticks stand where they stood; a button that was held before counts when it is pressed anew."""
        self._active, self._chosen, self._claim, self._last = claim.source, True, None, {}
        self._note(claim.events, claim.t, claim.away)
        return [ReleaseEvent(claim.t), *standing(claim.before, claim.t), *claim.events]

    def _did(self, deeds: set[str], t: float) -> bool:
        return any(t - self._last.get(name, -math.inf) <= SAME_HAND for name in deeds)

    def _note(self, events: list[PadEvent], t: float, away: dict[str, bool]) -> None:
        """Remember when the device that plays last did what."""
        for event in events:
            if isinstance(event, ButtonEvent):
                away = {**away, event.button: event.pressed}
            elif isinstance(event, StickEvent):
                away = {**away, event.stick: math.hypot(event.x, event.y) >= AWAY}
        for name, is_so in away.items():
            if is_so:
                self._last[name] = math.inf
            elif self._last.get(name) == math.inf:
                self._last[name] = t


def standing(state: PadState, t: float) -> list[PadEvent]:
    """Where both sticks are."""
    return [StickEvent(t, "left", *state.left), StickEvent(t, "right", *state.right)]


def is_away(raw: RawButton | RawTrigger | RawStick) -> bool:
    """Whether a control is held or pushed: a hand that moves slowly reaches no threshold at two places at once."""
    if isinstance(raw, RawButton):
        return raw.pressed
    return raw.value >= AWAY if isinstance(raw, RawTrigger) else math.hypot(raw.x, raw.y) >= AWAY


def deed(event: PadEvent, before: PadState) -> str:
    """What shows that a hand has gone to another device: the button pressed, the stick pushed half way out; or ""."""
    if isinstance(event, ButtonEvent):
        return event.button if event.pressed else ""
    if isinstance(event, StickEvent):
        was = before.left if event.stick == "left" else before.right
        return event.stick if math.hypot(event.x, event.y) >= TAKE_OVER > math.hypot(*was) else ""
    return ""
