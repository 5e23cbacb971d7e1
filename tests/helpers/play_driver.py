"""Drives the real `App` on SDL's dummy driver against the fake world, turn by turn, from the test's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pygame

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.loading.request import LoadRequest
from scope_play.play.app import App, Options
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import MakeEngine
from scope_play.play.menus.screen import Screen
from scope_play.play.settings import Settings
from scope_play.session.interfaces import WorldLike
from tests.helpers.fake_world import FakeWorld

FASTER = 4.0
"""The app's seconds in one of the test's."""

LOOK = 0.001
"""Of the test's seconds between two turns, as in the app, unless there is something from the engine."""


class Driver:
    """One app; `worlds` are handed out by model name, and one that is an exception is raised instead."""

    def __init__(
        self,
        worlds: dict[str, Any] | None = None,
        settings: Settings | None = None,
        settings_path: Path | None = None,
        make_engine: MakeEngine | None = None,
        **options: Any,
    ) -> None:
        self.worlds: dict[str, Any] = worlds or {"nano": FakeWorld()}
        names = tuple(self.worlds)
        options = {"models": names, "model": names[0], **options}
        settings = settings or Settings(window_size="640x360")
        self.app = App(
            Options(**options),
            settings,
            make_engine=make_engine or partial(LocalEngine, open_world=self._open),
            settings_path=settings_path,
            clock=lambda: FASTER * time.perf_counter(),
        )

    @property
    def screen(self) -> Screen:
        return self.app.state.screen

    @property
    def focus(self) -> str:
        return self.app.state.menu.item.key

    def _open(self, request: LoadRequest) -> WorldLike:
        world = self.worlds[request.model]
        if isinstance(world, BaseException):
            raise world
        return world

    def until(self, reached: Callable[[], bool]) -> None:
        """Turn the loop until `reached`, leaving the processor to the engine between turns. What never comes is ended
        by the test's own time limit."""
        while not reached():
            self.app.step()
            self.app.engine.wait(LOOK)

    def turns(self, count: int = 2) -> None:
        for _ in range(count):
            self.app.step()

    def key(self, key: int, text: str = "") -> None:
        """A key pressed and let go, each seen by its own turn."""
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, mod=0, unicode=text))
        if text:
            pygame.event.post(pygame.event.Event(pygame.TEXTINPUT, text=text))
        self.app.step()
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=key, mod=0))
        self.app.step()

    def choose(self, key: str) -> None:
        """Move down to a menu item and press it."""
        for _ in range(20):
            if self.focus == key:
                self.key(pygame.K_RETURN)
                return
            self.key(pygame.K_DOWN)
        raise LookupError(f"{key} is not on {self.screen}: {self.app.state.menu.items}")

    def play(self, chunks: int = 3) -> None:
        """From the start screen into the game, until some chunks have been shown."""
        self.until(lambda: self.app.engine.status.spec is not None and self.app.state.own_picture is not None)
        if self.screen is Screen.START:
            self.choose("play")
        self.until(lambda: self.screen is Screen.PLAY and self.app.playback.chunk >= chunks)

    def pixels(self) -> bytes:
        return pygame.image.tobytes(self.app.window.surface, "RGB")


def tap(driver: Driver, pad: VirtualPad, button: str) -> None:
    for pressed in (True, False):
        pad.set_button(button, pressed)
        driver.app.step()


def pad_choose(driver: Driver, pad: VirtualPad, key: str) -> None:
    for _ in range(20):
        if driver.focus == key:
            tap(driver, pad, "a")
            return
        tap(driver, pad, "dpad_down")
    raise LookupError(key)


def rows(driver: Driver) -> np.ndarray:
    return np.concatenate([step.rows for step in driver.app.playback.steps])
