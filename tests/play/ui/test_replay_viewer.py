"""A replay in a window, on SDL's dummy driver and with a clock of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pygame
import pytest

from scope_play.errors import ScopeError
from scope_play.play.ui.replay_viewer import show


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
        if self.sleeps == 40:
            press(pygame.K_SPACE)


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def pictures(count: int) -> Iterator[tuple[int, np.ndarray]]:
    for number in range(count):
        yield number, np.full((48, 80, 3), 20 * number, np.uint8)


def test_frames_are_shown_in_step_with_the_clock_and_passed_on() -> None:
    clock = Clock()
    seen = []
    for number, frame in show(pictures(10), 20, "clip", clock, clock.sleep):
        centre = pygame.display.get_surface().get_at(pygame.display.get_surface().get_rect().center)
        seen.append((number, round(clock.now, 6), tuple(centre)[:3]))
        assert frame[0, 0, 0] == 20 * number
    assert seen == [(n, round(n / 20, 6), (20 * n,) * 3) for n in range(10)]
    assert not pygame.display.get_init()


def test_a_model_that_is_late_does_not_make_the_next_frames_hurry() -> None:
    clock, shown = Clock(), threading.Event()

    def slow() -> Iterator[tuple[int, np.ndarray]]:
        for number, frame in pictures(6):
            if number == 2:
                shown.wait()
                clock.now += 0.3
            yield number, frame

    times = []
    for number, _ in show(slow(), 20, "clip", clock, clock.sleep):
        times.append(clock.now)
        if number == 1:
            shown.set()
    assert np.diff(times).max() >= 0.3
    assert np.diff(times).min() >= 0.05 - 1e-9


def test_the_window_heeds_keys_while_a_frame_takes_long() -> None:
    """A frame that is not made before Escape has closed the window."""
    clock = Clock()

    def stuck() -> Iterator[tuple[int, np.ndarray]]:
        for number, frame in pictures(3):
            while number == 1 and pygame.display.get_init():
                time.sleep(0.001)
            yield number, frame

    numbers = []
    for number, _ in show(stuck(), 20, "clip", clock, clock.sleep):
        numbers.append(number)
        if number == 0:
            press(pygame.K_ESCAPE)
    assert numbers == [0, 1, 2]


def test_what_goes_wrong_in_making_a_frame_is_raised_where_it_was_asked_for() -> None:
    clock = Clock()

    def broken() -> Iterator[tuple[int, np.ndarray]]:
        yield from pictures(2)
        raise ScopeError("the disk is full")

    shown = show(broken(), 20, "clip", clock, clock.sleep)
    assert [next(shown)[0], next(shown)[0]] == [0, 1]
    with pytest.raises(ScopeError, match="the disk is full"):
        next(shown)
    assert not pygame.display.get_init()


@pytest.mark.parametrize("key", [pygame.K_ESCAPE, pygame.K_q])
def test_closing_the_window_does_not_stop_the_frames(key: int) -> None:
    clock = Clock()
    numbers = []
    for number, _ in show(pictures(8), 20, "clip", clock, clock.sleep):
        numbers.append(number)
        if number == 3:
            press(key)
        assert pygame.display.get_init() == (number <= 3)
    assert numbers == list(range(8))


def test_space_pauses_and_goes_on() -> None:
    clock = Clock()
    times = []
    for number, _ in show(pictures(6), 20, "clip", clock, clock.sleep):
        times.append(clock.now)
        if number == 2:
            press(pygame.K_SPACE)  # the clock presses it again at its 40th sleep
    assert times[3] - times[2] > 0.5
    assert times[5] - times[4] == pytest.approx(0.05)
