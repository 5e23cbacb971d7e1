"""The app's loop: events in, frames out. It knows no torch; only the engine's thread waits for a model."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pygame

from scope_play.errors import ScopeError
from scope_play.interrupts import asked_to_stop
from scope_play.loading.request import LoadRequest, display_name
from scope_play.play import capture
from scope_play.play import settings as settings_file
from scope_play.play.app_state import AppState
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import Clock, MakeEngine, Phase
from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.devices import Devices, Notice, open_pads
from scope_play.play.menus.items import Form
from scope_play.play.menus.menu_input import MenuInput
from scope_play.play.menus.scenes import shipped_scenes
from scope_play.play.menus.screen import Screen
from scope_play.play.playback import Playback, Shot
from scope_play.play.settings import Options, Settings
from scope_play.play.ui import window_events
from scope_play.play.ui.compositor import Compositor
from scope_play.play.ui.window import Window
from scope_play.recording.metadata import InputSetup

POLL = 0.004
"""Seconds between looks at the pad while playing: 250 Hz."""

MENU_POLL = 1 / 60
IDLE_POLL = 1 / 20
IDLE_AFTER = 2.0
"""Seconds without a change on screen after which a menu looks for events less often."""

BUSY_EVERY = 0.1
INTERRUPTED = 130

PATIENCE = 3.0
"""Seconds that closing waits for a model to finish its chunk, or its loading."""


class App:
    """Make it and `run` it once.

    `request` says how to load a model by its name, `make_engine` where it plays. `settings` hold for this run. What the
    player changes is also written to the file at `settings_path`, if there is one, which so far says `stored`: options
    of one run are not kept. `complaints` are what went wrong before.
    """

    def __init__(
        self,
        options: Options,
        settings: Settings,
        *,
        request: Callable[[str], LoadRequest] = LoadRequest,
        make_engine: MakeEngine = LocalEngine,
        settings_path: Path | None = None,
        stored: Settings | None = None,
        controls: ControllerMap | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.clock = clock
        self.options = options
        self._settings_path = settings_path
        self._stored = stored or settings
        self._controls = controls or ControllerMap()
        self.window = Window(settings_file.window_size(settings), settings.fullscreen)
        complaints = [*options.complaints]
        if settings.fullscreen and not self.window.fullscreen:
            complaints.append("the display refuses fullscreen: play in the window.")
        try:
            pads = open_pads(options.gamepad or settings.gamepad, now=clock(), seed=options.seed)
        except ScopeError as error:
            complaints.append(f"SDL reads the pads this time: {error}")
            pads, settings = open_pads("sdl", now=clock()), replace(settings, gamepad="sdl")
        self._in_force = settings = replace(settings, fullscreen=self.window.fullscreen)
        self.devices = Devices(pads, self._controls)
        self.sampler = ActionSampler(clock())
        self.engine = make_engine(self._take_rows, clock=clock, history_bytes=settings.history_mb << 20)
        self.playback = Playback(self.engine, clock, lambda: self.state.settings.mode == "responsive")
        form = Form(
            models=options.models,
            model=options.model,
            scenes=shipped_scenes(display_name(options.model)),
            picture=options.image,
            prompt=options.prompt,
            seed=options.seed,
            record=options.record is not None,
        )
        self.state = AppState(
            self.engine,
            self.playback,
            settings,
            form,
            request,
            start_taking=self._start_taking,
            inputs=self._input_setup,
            report=lambda text: print(f"scope-play: {text}", file=sys.stderr),
            record_dir=options.record,
            autoplay=options.autoplay,
        )
        self._menu_input = MenuInput()
        self._steered_on: tuple[Screen, bool] | None = None
        self._focused = True
        self.compositor = Compositor(self.state, self._controls)
        self.drawn_at = 0.0
        self._code = 0
        self._ends_at = None if options.seconds is None or options.autoplay else clock() + options.seconds
        for complaint in complaints:
            self.state.complain(complaint, clock())
        self._libraries = threading.Thread(target=capture.load_libraries, name="libraries", daemon=True)
        self._libraries.start()
        self.state.load()

    def run(self) -> int:
        """Until the player leaves. Returns the exit code: 1 if the game that was to play by itself never began, 130
        after Ctrl-C or SIGTERM, which end a game as the player does."""
        with asked_to_stop() as asked:
            try:
                while not (self.state.over or asked.is_set()):
                    self.step()
                    self.rest()
            finally:
                self.close()
            self._code = INTERRUPTED if asked.is_set() else self._code
        if self.engine.alive or self._libraries.is_alive():
            _end_now(self._code)
        return self._code

    def step(self) -> None:
        """One turn of the loop: events, the frame that is due, drawing."""
        now = self.clock()
        state = self.state
        self._read(pygame.event.get(), now)
        shot, events = self.playback.tick(now)
        before = state.screen
        for event in events:
            state.heed(event, now)
        if not self._focused and state.screen is not before:
            self._pause_unattended()
        if self.engine.status.phase is Phase.STOPPED:
            raise ScopeError(self.engine.status.text)
        self._keep_settings(now)
        state.capture.watch(now)
        if state.message.text and now >= state.message.until:
            state.message = replace(state.message, text="")
            state.changed = True
        if self._time_is_up(now):
            state.over = True
        busy = self.engine.status.phase in (Phase.LOADING, Phase.WARMING, Phase.REWINDING)
        if (shot and state.screen is Screen.PLAY) or state.changed or (busy and now - self.drawn_at >= BUSY_EVERY):
            self._draw(shot, now)

    def close(self) -> None:
        """Give everything back: devices and window closed, the recording finished, the engine's thread ended."""
        self.playback.stop_recording("the app was closed")
        self.devices.close()
        self.window.close()
        self.playback.finish("the app was closed")
        self.engine.close(PATIENCE)
        self._libraries.join(PATIENCE)

    def rest(self) -> None:
        """Sleep until there may be something to do."""
        now = self.clock()
        if self.state.screen is Screen.PLAY:
            time.sleep(min(max(self.playback.next_due(now) - now, 0.0), POLL))
        else:
            time.sleep(MENU_POLL if now - self.drawn_at < IDLE_AFTER else IDLE_POLL)

    # Events.

    def _read(self, events: list[pygame.event.Event], now: float) -> None:
        """In the order of what happened: a press before the focus was lost is let go with it."""
        start = 0
        for end, event in enumerate(events):
            if event.type in (pygame.WINDOWFOCUSLOST, pygame.WINDOWFOCUSGAINED):
                self._take(events[start:end], now)
                self._focus(event.type == pygame.WINDOWFOCUSGAINED, now)
                start = end + 1
        typing = self._take(events[start:], now)
        if self.state.screen is not Screen.PLAY and self._steers(typing):
            for nav in self._menu_input.repeats(now):
                self.state.navigate(nav, now)
        playing = self.state.screen is Screen.PLAY
        self.window.set_typing(self.state.box is not None)
        self.window.set_mouse(hidden=playing, held=playing and self.devices.active.backend == "keyboard")

    def _take(self, events: list[pygame.event.Event], now: float) -> bool:
        """What a batch without a change of focus brings. Returns whether the keyboard was writing."""
        keys = any(event.type in (pygame.KEYDOWN, pygame.KEYUP) for event in events)
        typing = self.state.box is not None and (keys or self.devices.active.backend == "keyboard")
        for event in events:
            self._window_event(event, now)
        self._settle(now)
        for item in self.devices.read(events, now):
            if isinstance(item, Notice):
                self._notice(item, now)
            else:
                nav = self._menu_input.feed(item, now)
                if self.state.screen is Screen.PLAY:
                    self.sampler.push(item)
                    self._playing(item)
                elif nav and self._steers(typing):
                    self.state.navigate(nav, now)
            self._settle(now)
        return typing

    def _settle(self, now: float) -> None:
        """If another menu has opened: what is held does not act on it, and sticks are where they stand."""
        steered_on = (self.state.screen, self.state.box is not None)
        if steered_on != self._steered_on:
            self._steered_on = steered_on
            self._menu_input.let_go()
            for item in self.devices.resume(now):
                self._menu_input.feed(item, now)

    def _focus(self, focused: bool, now: float) -> None:
        self._focused = focused
        for item in self.devices.resume(now) if focused else self.devices.release_all(now):
            self.sampler.push(item)
            self._menu_input.feed(item, now)
        if not focused:
            self._pause_unattended()

    def _pause_unattended(self) -> None:
        """The player looks elsewhere. A script needs nobody to look."""
        if self.devices.active.backend != "scripted":
            self.state.pause()

    def _steers(self, typing: bool) -> bool:
        """Whether the device in use moves through menus: not keys that are writing, nor a script that plays."""
        return not typing and self.devices.active.backend != "scripted"

    def _time_is_up(self, now: float) -> bool:
        if self.options.seconds is None:
            return False
        if self._ends_at is None and self.state.screen is Screen.PLAY:
            self._ends_at = now + self.options.seconds
        if self._ends_at is None and self.state.failed:
            self._code = 1
            return True
        return self._ends_at is not None and now >= self._ends_at

    def _playing(self, item: object) -> None:
        button = getattr(item, "button", "") if getattr(item, "pressed", False) else ""
        if button == "start":
            self.state.pause()
        elif button == "back":
            self.state.open_rewind()

    def _notice(self, notice: Notice, now: float) -> None:
        if notice.pause:
            self.state.pause()
        self.state.say(notice.text, now, alert=notice.kind != "plugged")

    def _window_event(self, event: pygame.event.Event, now: float) -> None:
        state = self.state
        if event.type == pygame.QUIT:
            state.over = True
        elif event.type in (pygame.WINDOWSIZECHANGED, pygame.WINDOWEXPOSED, pygame.WINDOWRESTORED):
            state.changed = True
        elif event.type == pygame.DROPFILE:
            state.take_file(event.file, now)
        elif event.type == pygame.TEXTINPUT:
            window_events.write(state, event.text)
        elif event.type == pygame.KEYDOWN:
            window_events.press(state, event, now)
        elif event.type in (pygame.MOUSEMOTION, pygame.MOUSEBUTTONDOWN):
            window_events.point(state, self.window.theme, event, now)

    def _take_rows(self, now: float, n: int) -> np.ndarray:
        return self.sampler.rows(now, n, "responsive" if self.playback.responsive() else "exact")

    def _start_taking(self) -> None:
        """Play begins: nothing is held, and sticks are where they stand."""
        now = self.clock()
        self.sampler.start(now)
        for item in self.devices.resume(now):
            self.sampler.push(item)

    def _input_setup(self) -> InputSetup:
        return capture.input_setup(self.devices.active, self._controls, self.state.settings.mode)

    def _keep_settings(self, now: float) -> None:
        """What the player changed takes effect, and is written down if it does."""
        new, old = self.state.settings, self._in_force
        if new == old:
            return
        for key, adopt in (("fullscreen", self.window.set_fullscreen), ("gamepad", self._change_pads)):
            try:
                if getattr(new, key) != getattr(old, key):
                    adopt(getattr(new, key))
            except ScopeError as error:
                self.state.complain(str(error), now)
                kept: dict[str, Any] = {key: getattr(old, key)}
                new = replace(new, **kept)
        self.state.settings = self._in_force = new
        self._stored = settings_file.with_changes(self._stored, old, new)
        self.state.changed = True
        if new != old and self._settings_path:
            try:
                settings_file.save(self._settings_path, self._stored)
            except ScopeError as error:
                self.state.complain(str(error), now)

    def _change_pads(self, backend: str) -> None:
        pads = open_pads(backend, now=self.clock(), seed=self.options.seed)
        self.devices.close()
        self.devices = Devices(pads, self._controls)

    def _draw(self, shot: Shot | None, now: float) -> None:
        began = self.clock()
        self.state.refresh()
        self.compositor.paint(self.window.surface, self.window.theme, self.devices, now)
        self.window.present()
        self.state.changed = False
        self.drawn_at = self.clock()
        if shot:
            self.playback.presented(shot, began, self.drawn_at)


def _end_now(code: int) -> None:
    """End the program, whatever other threads are doing.

    A model cannot be stopped while it is being loaded, and its libraries abort a program that ends around them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
