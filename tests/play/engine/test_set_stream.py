"""Another way of denoising in a game: obeyed between chunks, refused without harm, remembered by going back."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from scope_play.loading.request import LoadRequest
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import (
    Adopted,
    Begin,
    Event,
    GoBack,
    Load,
    Loaded,
    Made,
    Opened,
    Refused,
    SetStream,
    WentBack,
)
from scope_play.play.engine.rate import expected_fps
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.small_world import small_world

ROWS = np.random.default_rng(5).uniform(-1, 1, (40, 4)).astype(np.float32)


class Game:
    def __init__(self) -> None:
        self.taken = 0
        self.engine = LocalEngine(self.take_rows, open_world=lambda request: small_world(window=3))
        self.engine.post(Load(LoadRequest("small")))
        self.await_(Loaded)
        self.engine.post(Begin(seed=3))
        self.opened = self.await_(Opened)

    def take_rows(self, now: float, n: int) -> np.ndarray:
        rows = np.zeros((n, 10), np.float32)
        rows[:, 6:] = ROWS[self.taken : self.taken + n]
        self.taken += n
        return rows

    def await_(self, kind: type) -> Event:
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            self.engine.wait(1.0)
            event = self.engine.take()
            if isinstance(event, kind):
                return event
            assert event is None or isinstance(event, Made), event
        raise AssertionError(f"no {kind.__name__}")

    def chunks(self, count: int) -> list[np.ndarray]:
        made = []
        for _ in range(count):
            self.engine.play(0.0)
            made.append(self.await_(Made).frames)
        return made


@pytest.fixture
def game() -> Game:
    return Game()


def test_a_change_is_obeyed_from_the_next_chunk_on_and_going_back_knows_it(game: Game) -> None:
    plain = game.chunks(2)
    game.engine.post(SetStream(steps=4, action_guidance=2.0))
    adopted = game.await_(Adopted)
    assert (adopted.stream.steps, adopted.stream.action_guidance, adopted.stream.window) == (4, 2.0, 3)
    assert adopted.fps is not None
    strong = game.chunks(4)
    game.engine.post(GoBack(1))
    game.await_(WentBack)
    game.taken = 4
    assert np.array_equal(game.chunks(1)[0], plain[1])  # as it was then
    game.engine.post(SetStream(steps=4, action_guidance=2.0))
    game.await_(Adopted)
    again = game.chunks(4)
    assert all(np.array_equal(a, b) for a, b in zip(strong, again, strict=True))
    game.engine.post(GoBack(4))
    game.await_(WentBack)
    game.taken = 16
    assert all(np.array_equal(a, b) for a, b in zip(strong[2:], game.chunks(2), strict=True))
    game.engine.close()


def test_what_cannot_be_is_refused_and_the_game_goes_on(game: Game) -> None:
    expected = game.chunks(3)
    game.engine.post(Begin(seed=3))
    game.await_(Opened)
    game.taken = 0
    made = game.chunks(1)
    for change, words in ((SetStream(steps=-1), "steps"), (SetStream(mode="window"), "bidirectional")):
        game.engine.post(change)
        assert words in game.await_(Refused).text
    made += game.chunks(2)
    assert all(np.array_equal(a, b) for a, b in zip(expected, made, strict=True))
    game.engine.close()


def test_the_next_game_begins_so(game: Game) -> None:
    game.engine.post(SetStream(steps=3))
    game.await_(Adopted)
    game.engine.post(Begin(seed=3))
    assert game.await_(Opened).spec.stream.steps == 3
    game.engine.close()


def test_the_rate_to_expect() -> None:
    before = StreamConfig(steps=4, window=12)
    timings = {"denoise": 0.08, "decode": 0.02, "commit": 0.02}
    assert expected_fps(timings, before, before, 4) == pytest.approx(4 / 0.12)
    assert expected_fps(timings, before, replace(before, steps=2), 4) == pytest.approx(4 / 0.08)
    assert expected_fps(timings, before, replace(before, guidance=5.0), 4) == pytest.approx(4 / 0.22)
    assert expected_fps(timings, before, replace(before, mode="window"), 4) == pytest.approx(4 / (13 * 0.08 + 0.02))
    assert expected_fps({}, before, before, 4) is None
