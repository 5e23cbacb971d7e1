"""A replay in a window: frames at their own pace, or as fast as they are made if that is slower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pygame

from scope_play.play.settings import Settings, window_size
from scope_play.play.ui.frame_view import clear_around, fit_frame
from scope_play.play.ui.window import Window

PAUSE_POLL = 1 / 60


def show(
    frames: Iterable[tuple[int, np.ndarray]],
    fps: int,
    title: str,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[int, np.ndarray]]:
    """Shows each frame and passes it on. Space pauses; Esc, Q or closing the window ends the show, not the frames."""
    window: Window | None = Window(window_size(Settings()))
    due = clock()
    try:
        for number, frame in frames:
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
        if window is not None:
            window.close()


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
