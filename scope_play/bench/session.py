"""The app as `play` and `soak` measure it: opened with a pad plugged in and recording on, turned, and watched."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.bench.virtual_pad import VirtualPad
    from scope_play.play.app import App
    from scope_play.play.engine.protocol import MakeEngine
    from scope_play.play.playback import Shot


@contextmanager
def playing(
    model: str, steps: int | None, mode: str, window: str, record: Path, make_engine: MakeEngine | None = None
) -> Iterator[tuple[App, VirtualPad]]:
    """The app in a game that has just begun, recording below `record`, and the pad in use; both closed on leaving.
    `make_engine`: where it plays, if not here.

    Without a display it runs on SDL's dummy driver.
    """
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")  # the window need not have the focus
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    from scope_play.bench.virtual_pad import VirtualPad
    from scope_play.loading.request import LoadRequest
    from scope_play.play.app import App, Options
    from scope_play.play.engine.local import LocalEngine
    from scope_play.play.settings import Settings

    app = App(
        Options(models=(model,), model=model, gamepad="sdl", autoplay=True, record=record),
        Settings(window_size=window, mode=mode),
        request=lambda name: LoadRequest(name, steps=steps),
        make_engine=make_engine or LocalEngine,
    )
    try:
        with VirtualPad() as pad:
            _reach_play(app)
            yield app, pad
    finally:
        app.close()


def turn(app: App, seen: Callable[[Shot, float], None]) -> None:
    """One turn of the loop; `seen(shot, clock time)` is called if it put another frame of a chunk on screen."""
    before = app.playback.shot
    app.step()
    shot = app.playback.shot
    if shot is not None and shot is not before and shot.made is not None:
        seen(shot, app.drawn_at)
    app.rest()


def play_until(
    app: App, end: float, seen: Callable[[Shot, float], None], looked: Callable[[], None] = lambda: None
) -> None:
    """Turns of the loop until the clock shows `end`, `looked()` after each. Raises ScopeError if play ends before."""
    from scope_play.play.menus.screen import Screen

    while app.clock() < end:
        turn(app, seen)
        looked()
        if app.state.over or app.state.screen is not Screen.PLAY:
            raise ScopeError(f"play ended on the {app.state.screen.value} screen: {app.state.message.text or 'quit'}")


def cpu_seconds(app: App) -> dict[str, float | None]:
    """CPU time so far of the loop's thread, the recorder's, the engine's, and the process; None if not known here."""
    by_name = {thread.name: thread for thread in threading.enumerate()}
    return {
        "loop": time.thread_time(),
        "recorder": _thread_seconds(by_name.get("recorder")),
        "engine": _thread_seconds(by_name.get("engine")),
        "process": time.process_time(),
    }


def shares(before: dict[str, float | None], after: dict[str, float | None], lasted: float) -> dict[str, float | None]:
    """Shares of one core between two readings of `cpu_seconds`, `lasted` seconds apart."""
    return {
        name: None if now is None or (then := before[name]) is None else (now - then) / lasted
        for name, now in after.items()
    }


def _reach_play(app: App) -> None:
    from scope_play.play.menus.screen import Screen

    while app.state.screen is not Screen.PLAY:
        turn(app, lambda shot, at: None)
        if app.state.message.alert:
            raise ScopeError(app.state.message.text)


def _thread_seconds(thread: threading.Thread | None) -> float | None:
    if thread is None or thread.ident is None or sys.platform == "win32" or sys.platform == "darwin":
        return None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
