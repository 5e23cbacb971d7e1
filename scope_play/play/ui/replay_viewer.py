"""A replay in a window: frames at their own pace, or as fast as they are made if that is slower."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Queue
from typing import TypeAlias

import numpy as np
import pygame

from scope_play.play.settings import Settings, window_size
from scope_play.play.ui.frame_view import clear_around, fit_frame
from scope_play.play.ui.window import Window

PAUSE_POLL = 1 / 60
AHEAD = 8
"""Frames that may be made before they are shown."""

Numbered: TypeAlias = tuple[int, np.ndarray]


def show(
    frames: Iterable[Numbered],
    fps: int,
    title: str,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Numbered]:
    """Shows each frame and passes it on. Space pauses; Esc, Q or closing the window ends the show, not the frames.

    Frames are made in a thread of their own: keys count also while one takes long.
    """
    window: Window | None = Window(window_size(Settings()))
    due = clock()
    made: Queue[Numbered | BaseException | None] = Queue(AHEAD)
    over = threading.Event()
    maker = threading.Thread(target=_make, args=(frames, made, over), name="replay", daemon=True)
    maker.start()
    try:
        while True:
            try:
                item = made.get(timeout=None if window is None else PAUSE_POLL)
            except Empty:
                if window is not None and not _watched(sleep):
                    window.close()
                    window = None
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            number, frame = item
            if window is not None:
                sleep(max(0.0, due - clock()))
                if _watched(sleep):
                    due = max(due, clock()) + 1 / fps
                    _draw(window, frame, f"{title}  {number / fps:.1f} s")
                else:
                    window.close()
                    window = None
            yield number, frame
    finally:
        over.set()
        while maker.is_alive():  # it may be waiting to hand one over
            with contextlib.suppress(Empty):
                made.get(timeout=PAUSE_POLL)
        if window is not None:
            window.close()


def _make(frames: Iterable[Numbered], made: Queue[Numbered | BaseException | None], over: threading.Event) -> None:
    """Hands over every frame, then None, or what went wrong."""
    try:
        for item in frames:
            made.put(item)
            if over.is_set():
                break
        close = getattr(frames, "close", None)
        if close is not None:
            close()
        made.put(None)
    except BaseException as error:  # noqa: BLE001 - raised again where the frames were asked for
        made.put(error)


def _watched(sleep: Callable[[float], None]) -> bool:
    """Heeds keys and the close button, waiting while paused; False once the viewer has had enough."""
    paused = False
    while True:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return False
            if event.type == pygame.KEYDOWN:
                if event.key in (pygame.K_ESCAPE, pygame.K_q):
                    return False
                paused ^= event.key == pygame.K_SPACE
        if not paused:
            return True
        sleep(PAUSE_POLL)


def _draw(window: Window, frame: np.ndarray, caption: str) -> None:
    picture = fit_frame(window.surface, frame)
    clear_around(window.surface, picture)
    pygame.display.set_caption(caption)
    window.present()
