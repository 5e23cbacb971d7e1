"""A step, a commit or a prompt that fails has changed nothing: asked for again, it gives what it would have given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.nano_codec.codec import DecoderStream
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import StreamCache
from scope_play.session.session import Session
from scope_play.world import World
from tests.helpers.small_world import small_world

PLACES = {
    "network": (FusedDiT, "step"),
    "decoder": (DecoderStream, "push"),
    "cache": (StreamCache, "commit"),
}
CASES = [(place, after) for place in PLACES for after in (False, True) if (place, after) != ("cache", True)]
"""What a commit writes into the cache is its last act: it does not fail afterwards."""
JOINT, OWN_PASS, GUIDED = {"window": 4}, {"window": 1}, {"window": 4, "action_guidance": 2.0}


def fails_once(place: str, call: int, after: bool, patch: pytest.MonkeyPatch) -> list[int]:
    """The `call`-th call there raises, when its work is done or before; how many calls are left is kept in the list."""
    owner, name = PLACES[place]
    real: Callable[..., Any] = getattr(owner, name)
    left = [call]

    def fail(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise MemoryError("no room")
        made = real(*args, **kwargs)
        if left[0] == 0:
            raise MemoryError("no room")
        return made

    patch.setattr(owner, name, fail)
    return left


def rows_of(seed: int, chunks: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.integers(0, 2, (chunks, 4, 6)), rng.uniform(-1, 1, (chunks, 4, 4))], 2)
    return list(rows.astype(np.float32))


def play(session: Session, rows: list[np.ndarray], defer: bool) -> np.ndarray:
    made = []
    for chunk in rows:
        made.append(session.step(chunk, defer_commit=defer).frames)
        session.flush_commit()
    return np.concatenate(made)


@pytest.fixture(scope="module", params=[JOINT, OWN_PASS, GUIDED], ids=["joint", "own pass", "guided"])
def world(request: pytest.FixtureRequest) -> World:
    return small_world(**request.param)


@pytest.mark.parametrize("defer", [False, True], ids=["at once", "deferred"])
@pytest.mark.parametrize(("place", "after"), CASES)
def test_a_step_that_failed_can_be_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, after: bool, defer: bool
) -> None:
    """What was asked for when it failed were other rows, so nothing of them may stay."""
    rows, others = rows_of(1, 7), rows_of(2, 7)
    with world.start(seed=3) as session:
        expected = play(session, rows, defer)
    failures = 0
    for chunk in (0, 1, 5):
        for call in (1, 2, 3):
            with world.start(seed=3) as session:
                made = [play(session, rows[:chunk], defer)] if chunk else []
                with monkeypatch.context() as patch:
                    left = fails_once(place, call, after, patch)
                    try:
                        session.step(others[chunk], defer_commit=defer)
                    except MemoryError:
                        failures += 1
                    if left[0] > 0:
                        continue  # it is not called so often in a step
                made.append(play(session, rows[chunk:], defer))
                assert np.abs(np.concatenate(made).astype(int) - expected).max() <= 1, (chunk, call)
    assert failures >= (0 if defer and place == "cache" else 3)


def test_a_deferred_commit_that_failed_is_made_up_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(1, 5)
    with world.start(seed=3) as session:
        expected = play(session, rows, True)
    for place, after in CASES:
        with world.start(seed=3) as session:
            made = [play(session, rows[:2], True), session.step(rows[2], defer_commit=True).frames]
            with monkeypatch.context() as patch:
                left = fails_once(place, 1, after, patch)
                try:
                    session.flush_commit()
                except MemoryError:
                    assert left == [0]
            made.append(play(session, rows[3:], True))
            assert np.array_equal(np.concatenate(made), expected)


def test_a_decoder_with_memory_that_stopped_halfway_asks_for_a_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    world, rows = small_world(), rows_of(1, 4)
    with world.start(seed=3) as session:
        expected = play(session, rows, False)
    monkeypatch.setattr(DecoderStream, "nbytes", 1)
    with world.start(seed=3) as session:
        made, kept = play(session, rows[:2], False), session.snapshot()
        with monkeypatch.context() as patch:
            fails_once("decoder", 1, True, patch)
            with pytest.raises(MemoryError):
                session.step(rows[2])
        with pytest.raises(ScopeError, match="restore a snapshot"):
            session.step(rows[2])
        session.restore(kept)
        assert np.array_equal(np.concatenate([made, play(session, rows[2:], False)]), expected)


@pytest.fixture(scope="module")
def reader() -> World:
    """A world that reads prompts, of any letters but x."""

    def read(prompt: str) -> torch.Tensor:
        if "x" in prompt:
            raise MemoryError("no room for an x")
        generator = torch.Generator().manual_seed(sum(prompt.encode()))
        return torch.randn(1, 3, 16, generator=generator)

    world = small_world(text_dim=16)
    return World(replace(world.model, prompt_reader=read))


def test_a_prompt_that_cannot_be_read_leaves_the_one_before(reader: World) -> None:
    rows = rows_of(1, 6)
    with reader.start(prompt="a yard", seed=3) as session:
        expected = [play(session, rows[:2], False)]
        session.set_prompt("a hall")
        kept = session.snapshot()
        expected.append(play(session, rows[2:], False))
        assert session.prompt == "a hall"
    with reader.start(prompt="a yard", seed=3) as session:
        made = [play(session, rows[:2], False)]
        with pytest.raises(MemoryError):
            session.set_prompt("xyz")
        assert session.prompt == "a yard"
        session.set_prompt("a hall")
        with pytest.raises(MemoryError):
            session.set_prompt("a box")
        made.append(play(session, rows[2:], False))
        assert np.array_equal(np.concatenate(made), np.concatenate(expected))
        session.restore(kept)
        assert np.array_equal(play(session, rows[2:], False), expected[1])
        assert session.prompt == "a hall"
    with reader.start(prompt="a yard", seed=3) as session:
        assert not np.array_equal(play(session, rows, False), np.concatenate(expected))  # prompts are heard at all


def test_a_prompt_that_finds_no_room_in_the_caches_leaves_the_one_before(
    reader: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(1, 6)
    with reader.start(prompt="a yard", seed=3) as session:
        expected = play(session, rows, False)
    for call in (1, 2, 3):
        with reader.start(prompt="a yard", seed=3) as session:
            made = [play(session, rows[:3], False)]
            with monkeypatch.context() as patch:
                left = fails_once("network", call, False, patch)
                with pytest.raises(MemoryError):
                    session.set_prompt("a hall")
                assert left[0] < 0 or call == 1  # what was remembered ran again under the old prompt
            assert session.prompt == "a yard"
            made.append(play(session, rows[3:], False))
            assert np.abs(np.concatenate(made).astype(int) - expected).max() <= 1


CHANGES = [{"steps": 3}, {"guidance": 2.0, "action_guidance": 1.5}, {"window": 2}]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_change_of_denoising_that_finds_no_room_changes_nothing(
    reader: World, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]
) -> None:
    rows = rows_of(1, 6)
    with reader.start(prompt="a yard", seed=3) as session:
        expected = play(session, rows, False)
    other = replace(reader.spec.stream, **changes)  # type: ignore[arg-type]
    with reader.start(prompt="a yard", seed=3) as session:
        made = [play(session, rows[:3], False)]
        with monkeypatch.context() as patch:
            fails_once("network", 2, False, patch)
            with pytest.raises(MemoryError):
                session.set_stream(other)
        with pytest.raises(ScopeError, match="load the model again"):
            session.set_stream(replace(other, chunk=2))
        assert session.stream_config == reader.spec.stream
        made.append(play(session, rows[3:], False))
        assert np.array_equal(np.concatenate(made), expected)


def test_snapshots_remember_how_was_denoised(reader: World) -> None:
    rows = rows_of(1, 6)
    other = replace(reader.spec.stream, steps=3, guidance=2.0)
    with reader.start(prompt="a yard", seed=3) as session:
        play(session, rows[:2], False)
        before = session.snapshot()
        plain = play(session, rows[2:4], False)
        session.restore(before)
        session.set_stream(other)
        after = session.snapshot()
        guided = play(session, rows[2:4], False)
        assert not np.array_equal(plain, guided)
        session.restore(before)
        assert session.stream_config == reader.spec.stream
        assert np.array_equal(play(session, rows[2:4], False), plain)
        session.restore(after)
        assert np.array_equal(play(session, rows[2:4], False), guided)
