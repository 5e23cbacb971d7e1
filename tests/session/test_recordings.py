"""On a GPU passes are recorded: while the model loads, and never in a game."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from scope_play.actions import ROW_WIDTH
from scope_play.bench.random_world import random_world
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import (
    Adopted,
    Begin,
    GoBack,
    Leave,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    SetPrompt,
    SetStream,
    WentBack,
)
from scope_play.serve.floor import Floor
from scope_play.session import loaded_model
from scope_play.world import World
from tests.helpers.engines import LIMIT, await_one
from tests.helpers.recorders import Counting

WINDOW = 3


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Every model records its passes, as on a GPU."""
    made = Counting()
    monkeypatch.setattr(loaded_model, "recorder_on", lambda device, priority=0: made)
    return made


def open_world(request: LoadRequest) -> World:
    return random_world("small-random", device="cpu", overrides={"window": WINDOW, "steps": 2})


@pytest.fixture
def engine(record: Counting) -> Iterator[LocalEngine]:
    made = LocalEngine(lambda now, n: np.zeros((n, ROW_WIDTH), np.float32), open_world=open_world)
    yield made
    assert made.close(LIMIT)


def play(engine: LocalEngine, chunks: int) -> list[np.ndarray]:
    made = []
    for _ in range(chunks):
        engine.play(-math.inf)
        event = await_one(engine, Made)
        assert isinstance(event, Made)
        made.append(event.frames)
    return made


def test_nothing_is_recorded_after_a_game_was_opened(engine: LocalEngine, record: Counting) -> None:
    told = []
    say = engine._say

    def listen(phase: Phase, text: str, *args: object) -> None:
        told.append(text)
        say(phase, text, *args)  # type: ignore[arg-type]

    engine._say = listen  # type: ignore[method-assign]
    engine.post(Load(LoadRequest("small-random")))
    await_one(engine, Loaded)
    recorded = record.count
    assert recorded >= 2 * WINDOW
    assert "Warming up small-random, 1 of " in " ".join(told)
    games = []
    for _ in range(2):
        engine.post(Begin(None, "a prompt", 7))
        await_one(engine, Opened)
        made = play(engine, WINDOW + 2)
        engine.post(SetPrompt("another"))
        made += play(engine, 2)
        engine.post(GoBack(1))
        await_one(engine, WentBack)
        made += play(engine, 2)
        engine.post(GoBack(0))
        await_one(engine, WentBack)
        made += play(engine, 1)
        games.append(np.concatenate(made))
        engine.post(Leave())
    assert record.count == recorded
    assert np.array_equal(*games)


def test_another_way_of_denoising_is_recorded_when_it_is_chosen(engine: LocalEngine, record: Counting) -> None:
    """In the menu, then; and kept for the next game that begins so."""
    engine.post(Load(LoadRequest("small-random")))
    await_one(engine, Loaded)
    engine.post(Begin(None, "", 7))
    await_one(engine, Opened)
    play(engine, 2)
    before = record.count
    engine.post(SetStream(window=2))
    await_one(engine, Adopted)
    chosen = record.count
    assert chosen > before
    play(engine, 4)
    engine.post(Leave())
    engine.post(Begin(None, "", 8))
    await_one(engine, Opened)
    play(engine, 4)
    assert record.count == chosen


def test_a_server_records_for_all_its_seats_before_the_first_game(record: Counting) -> None:
    floor = Floor(LoadRequest("small-random"), seats=2, history_bytes=1, open_world=open_world)
    world = floor.ground.result(LIMIT).world
    assert isinstance(world, World)
    recorded = record.count
    assert world.idle_bytes > 0

    def game() -> None:
        with world.start(prompt="one") as one, world.start(prompt="two") as two:
            for session in [one, two] * (WINDOW + 1):
                session.step(np.zeros((4, ROW_WIDTH), np.float32))

    floor.ask("owner", game).result(LIMIT)
    assert record.count == recorded
    assert floor.close()
