"""Going back: exact frames from any chunk, within the memory budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.actions import ROW_WIDTH
from scope_play.images import thumbnail
from scope_play.play.engine.protocol import Step
from scope_play.play.engine.rewind import History, least_useful
from scope_play.play.filmstrip import Strip
from tests.helpers.fake_world import FakeWorld


def rows_of(chunk: int) -> np.ndarray:
    rng = np.random.default_rng(chunk)
    return rng.uniform(-1, 1, (4, ROW_WIDTH)).astype(np.float32)


def advance(session: Any, history: History, chunks: int, prompts: dict[int, str] | None = None) -> list[np.ndarray]:
    frames, prompt = [], history.steps[-1].prompt if history.steps else None
    for _ in range(chunks):
        number = len(history.steps)
        if prompts and number in prompts:
            prompt = prompts[number]
            session.set_prompt(prompt)
        rows = rows_of(number)
        chunk = session.step(rows)
        history.add(session, Step(rows, prompt), chunk.frames[-1])
        frames.append(chunk.frames)
    return frames


def begun(budget: int = 1 << 30, reach: int = 600, snapshot_bytes: int = 1000) -> tuple[Any, Any, History]:
    world: Any = FakeWorld(snapshot_bytes=snapshot_bytes)
    session = world.start(seed=3)
    history = History(budget, reach)
    history.begin(session)
    return world, session, history


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.data(), st.sampled_from([1 << 30, 60_000, 0]))
def test_any_chunk_is_reached_exactly_and_goes_on_the_same(made: int, data: st.DataObject, budget: int) -> None:
    world, session, history = begun(budget)
    target = data.draw(st.integers(0, made))
    frames = advance(session, history, made, {made // 3: "a red room", made // 2: "a blue room"})
    session, last = history.go_back(session, target, lambda: world.start(seed=3), lambda *_: None)
    assert session.index == target
    assert len(history.steps) == target
    np.testing.assert_array_equal(last, frames[target - 1][-1] if target else session.first_frame)
    again = advance(session, history, made - target, {made // 3: "a red room", made // 2: "a blue room"})
    for now, then in zip(again, frames[target:], strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_budget_holds_and_the_oldest_stays_reachable() -> None:
    frame_bytes = 48 * 80 * 3
    budget = 10 * (1000 + frame_bytes)
    world, session, history = begun(budget, reach=100)
    frames = advance(session, history, 400)
    assert history.nbytes <= budget
    assert len(history.keyframes) >= 8
    assert history.keyframes[0].chunk <= history.oldest == 300
    session, last = history.go_back(session, 0, lambda: world.start(seed=3), lambda *_: None)
    assert session.index == 300
    np.testing.assert_array_equal(last, frames[299][-1])


def test_recent_keyframes_are_closer_together_than_old_ones() -> None:
    chunks = list(range(0, 600, 5))
    while len(chunks) > 20:
        del chunks[least_useful(chunks, 600)]
    gaps = np.diff(chunks)
    assert chunks[0] == 0
    assert chunks[-1] == 595
    assert gaps[-5:].max() <= 10 < gaps[:5].min()


def test_a_world_too_large_for_the_budget_starts_again() -> None:
    world, session, history = begun(budget=500)
    frames = advance(session, history, 12)
    assert history.keyframes == []
    told: list[tuple[int, int]] = []
    session, last = history.go_back(session, 7, lambda: world.start(seed=3), lambda *at: told.append(at))
    np.testing.assert_array_equal(last, frames[6][-1])
    assert told == [(done, 7) for done in range(7)]
    assert world.closed_sessions == 1


def test_the_strip_keeps_two_minutes_and_forgets_a_cut_branch() -> None:
    strip = Strip(reach=10)
    for chunk in range(30):
        strip.add(chunk, np.full((48, 80, 3), chunk, np.uint8))
    assert (strip.oldest, strip.newest) == (19, 29)
    strip.cut(24)
    assert strip.newest == 24
    assert strip[24][0, 0, 0] == 24
    with pytest.raises(KeyError):
        strip[25]


def test_thumbnails_are_small_averages() -> None:
    frame = np.zeros((480, 832, 3), np.uint8)
    frame[:, 416:] = 200
    small = thumbnail(frame)
    assert small.shape == (96, 166, 3)
    assert small[0, 0, 0] == 0
    assert small[0, -1, 0] == 200


@pytest.mark.parametrize(("free", "kept"), [(0, 0), (3 << 30, 1), (64 << 30, 3)])
def test_keyframes_of_a_large_model_are_asked_for_by_their_size(free: int, kept: int) -> None:
    """One gibibyte each, with a budget of half of one: nothing is copied that there is no room for."""
    world: Any = FakeWorld(snapshot_bytes=1 << 30)
    session, history = world.start(seed=3), History(512 << 20)
    history.free = lambda: free - history.nbytes
    history.begin(session)
    assert world.snapshots_taken == 0
    frames = advance(session, history, 250)
    assert len(history.keyframes) == kept
    assert (world.snapshots_taken == 0) == (kept == 0)
    session, last = history.go_back(session, 200, lambda: world.start(seed=3), lambda *_: None)
    np.testing.assert_array_equal(last, frames[199][-1])
