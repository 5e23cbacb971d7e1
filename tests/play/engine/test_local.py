"""The engine's thread: what it takes, what it gives, and how it survives what a model can raise."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scope_play.actions import ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import (
    Begin,
    Event,
    Failed,
    GoBack,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    Refused,
    SetPrompt,
    WentBack,
)
from scope_play.recording.metadata import ModelSetup
from scope_play.session.interfaces import WorldLike
from tests.helpers.fake_world import FakeSession, FakeWorld, fake_spec

LIMIT = 10.0


def zeros(now: float, n: int) -> np.ndarray:
    return np.zeros((n, ROW_WIDTH), np.float32)


WORLDS: dict[str, Callable[[], Any]] = {}
"""What a load of that name gives."""


def lend(request: LoadRequest) -> WorldLike:
    return WORLDS.pop(request.model)()


def load(engine: LocalEngine, name: str, make: Callable[[], Any]) -> None:
    WORLDS[name] = make
    engine.post(Load(LoadRequest(name)))


@pytest.fixture
def make_engine() -> Iterator[Callable[..., LocalEngine]]:
    engines: list[LocalEngine] = []

    def make(**options: Any) -> LocalEngine:
        engines.append(LocalEngine(options.pop("take_rows", zeros), open_world=lend, **options))
        return engines[-1]

    yield make
    for engine in engines:
        assert engine.close()


def next_event(engine: LocalEngine) -> Event:
    assert engine.wait(LIMIT), engine.status
    event = engine.take()
    assert event is not None
    return event


def opened(engine: LocalEngine, world: FakeWorld, **begin: Any) -> Opened:
    load(engine, "fake", lambda: world)
    assert isinstance(next_event(engine), Loaded)
    engine.post(Begin(**begin))
    event = next_event(engine)
    assert isinstance(event, Opened)
    return event


def make_chunk(engine: LocalEngine) -> Made:
    engine.play(0.0)
    event = next_event(engine)
    assert isinstance(event, Made)
    return event


def test_everything_of_the_model_happens_in_one_thread(make_engine: Callable[..., LocalEngine]) -> None:
    threads: set[str] = set()

    class Watched(FakeWorld):
        def start(self, *args: Any, **kwargs: Any) -> Any:
            threads.add(threading.current_thread().name)
            return super().start(*args, **kwargs)

        def before_step(self, index: int) -> None:
            threads.add(threading.current_thread().name)

    engine = make_engine()
    opened(engine, Watched())
    make_chunk(engine)
    assert threads == {"engine"}


def test_one_asking_makes_one_chunk_and_never_two_wait(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()
    world = FakeWorld()
    opened(engine, world)
    made_before = world.steps_made
    engine.play(0.0)
    assert engine.wait(LIMIT)
    for _ in range(5):
        engine.play(0.0)
    first = engine.take()
    assert isinstance(first, Made)
    assert world.steps_made == made_before + 1
    assert not engine.wait(0.02)
    assert make_chunk(engine).index == first.index + 1


def test_rows_are_taken_when_the_chunk_begins(make_engine: Callable[..., LocalEngine]) -> None:
    times = iter([1.0, 2.0, 3.0, 4.0] + [9.0] * 1000)
    asked: list[float] = []

    def take(now: float, n: int) -> np.ndarray:
        asked.append(now)
        return np.full((n, ROW_WIDTH), 0.25, np.float32)

    engine = make_engine(take_rows=take, clock=lambda: next(times))
    opened(engine, FakeWorld())
    assert asked == []
    made = make_chunk(engine)
    assert asked == [made.sampled]
    np.testing.assert_array_equal(made.rows, np.full((4, ROW_WIDTH), 0.25, np.float32))
    assert made.sampled <= made.ready


def test_a_paused_engine_makes_nothing_and_sleeps(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()
    world = FakeWorld()
    opened(engine, world)
    make_chunk(engine)
    engine.play(float("inf"))
    engine.pause()
    before = world.steps_made
    assert not engine.wait(0.05)
    assert world.steps_made == before
    assert engine.status.phase is Phase.PAUSED


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (RuntimeError, "CUDA out of memory. Tried to allocate 2.00 GiB\nmore", "Out of memory while playing"),
        (MemoryError, "", "Out of memory while playing"),
        (RuntimeError, "mat1 and mat2 shapes cannot be multiplied\nrest", "mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_failing_while_playing_frees_the_world_and_the_next_load_works(
    make_engine: Callable[..., LocalEngine], kind: type[Exception], text: str, words: str
) -> None:
    engine = make_engine()
    # Nobody but the engine holds the world, and nobody the error, whose traceback would hold it too.
    world = FakeWorld(errors={3: kind(text)})
    held = weakref.ref(world)
    opened(engine, world)
    del world
    make_chunk(engine)
    assert held() is not None
    engine.play(0.0)
    failed = next_event(engine)
    assert isinstance(failed, Failed)
    assert failed.world_lost
    assert words in failed.text
    assert "\n" not in failed.text
    assert held() is None
    opened(engine, FakeWorld())
    assert make_chunk(engine).index == 1


def test_a_world_that_cannot_be_loaded_says_so(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()

    def refuse() -> Any:
        raise ScopeError("weights/config.json: key 'world' is missing; export the folder again")

    load(engine, "broken", refuse)
    failed = next_event(engine)
    assert failed == Failed("weights/config.json: key 'world' is missing; export the folder again", True)
    assert engine.status.phase is Phase.FAILED
    opened(engine, FakeWorld())


def test_a_bad_picture_keeps_the_world(make_engine: Callable[..., LocalEngine], tmp_path: Path) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture")
    engine = make_engine()
    opened(engine, FakeWorld())
    engine.post(Begin(bad))
    failed = next_event(engine)
    assert isinstance(failed, Failed)
    assert not failed.world_lost
    assert engine.status.phase is Phase.READY
    assert engine.status.spec is not None
    assert str(bad) in failed.text
    engine.post(Begin())
    assert isinstance(next_event(engine), Opened)


def test_a_world_without_a_scene_of_its_own_asks_for_a_picture(make_engine: Callable[..., LocalEngine]) -> None:
    class Bare(FakeWorld):
        def start(self, image: Any = None, *args: Any, **kwargs: Any) -> Any:
            if image is None:
                raise ScopeError("this world has no scene of its own; give a start image")
            return super().start(image, *args, **kwargs)

    engine = make_engine()
    load(engine, "bare", lambda: Bare(fake_spec(has_scene=False)))
    loaded = next_event(engine)
    assert isinstance(loaded, Loaded)
    assert loaded.picture is None
    engine.post(Begin())
    assert next_event(engine) == Failed("this world has no scene of its own; give a start image", False)
    engine.post(Begin(np.zeros((48, 80, 3), np.uint8)))
    assert isinstance(next_event(engine), Opened)


def test_a_refused_prompt_does_not_end_the_game(make_engine: Callable[..., LocalEngine]) -> None:
    class Mute(FakeWorld):
        def start(self, *args: Any, **kwargs: Any) -> Any:
            session = super().start(*args, **kwargs)

            def refuse(prompt: str) -> None:
                raise ScopeError("this world takes no prompt; leave it empty")

            session.set_prompt = refuse  # type: ignore[method-assign]
            return session

    engine = make_engine()
    opened(engine, Mute(fake_spec(has_text=False)))
    engine.post(SetPrompt("a red room"))
    assert next_event(engine) == Refused("this world takes no prompt; leave it empty")
    assert make_chunk(engine).prompt is None


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory"), OSError("the encoder is gone")])
def test_a_prompt_that_breaks_the_encoder_does_not_end_the_game(
    make_engine: Callable[..., LocalEngine], error: Exception
) -> None:
    class Breaking(FakeWorld):
        def start(self, *args: Any, **kwargs: Any) -> Any:
            session = super().start(*args, **kwargs)

            def fail(prompt: str) -> None:
                raise error

            session.set_prompt = fail  # type: ignore[method-assign]
            return session

    engine = make_engine()
    opened(engine, Breaking(), prompt="first")
    engine.post(SetPrompt("second"))
    assert isinstance(next_event(engine), Refused)
    assert make_chunk(engine).prompt == "first"


def test_of_loads_not_yet_begun_the_newest_counts(make_engine: Callable[..., LocalEngine]) -> None:
    began, goes_on, loaded = threading.Event(), threading.Event(), []

    def slow(name: str) -> Callable[[], FakeWorld]:
        def make() -> FakeWorld:
            loaded.append(name)
            began.set()
            assert goes_on.wait(LIMIT)
            return FakeWorld(fake_spec(name=name))

        return make

    engine = make_engine()
    load(engine, "first", slow("first"))
    assert began.wait(LIMIT)
    for name in ("second", "third", "fourth"):
        load(engine, name, slow(name))
        engine.post(Begin())
    goes_on.set()
    events = [next_event(engine) for _ in range(3)]
    assert [type(event) for event in events] == [Loaded, Loaded, Opened]
    assert loaded == ["first", "fourth"]
    assert engine.status.spec is not None
    assert engine.status.spec.name == "fourth"


def test_a_prompt_holds_from_the_next_chunk_on(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()
    opened(engine, FakeWorld(), prompt="first")
    assert make_chunk(engine).prompt == "first"
    engine.post(SetPrompt("second"))
    assert make_chunk(engine).prompt == "second"


def test_going_back_discards_what_was_not_shown_and_repeats_exactly(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine(take_rows=lambda now, n: np.full((n, ROW_WIDTH), 0.1, np.float32))
    opened(engine, FakeWorld())
    first = [make_chunk(engine) for _ in range(8)]
    engine.play(0.0)
    assert engine.wait(LIMIT)
    engine.post(GoBack(3))
    while not isinstance(event := next_event(engine), WentBack):
        assert isinstance(event, Made)
    assert event.chunk == 3
    np.testing.assert_array_equal(event.frame, first[2].frames[-1])
    again = [make_chunk(engine) for _ in range(5)]
    for now, then in zip(again, first[3:], strict=True):
        assert now.index == then.index
        np.testing.assert_array_equal(now.frames, then.frames)


def test_an_error_of_the_engine_itself_is_not_hidden(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()
    hooked: list[type[BaseException]] = []
    previous, threading.excepthook = threading.excepthook, lambda args: hooked.append(args.exc_type)
    try:
        opened(engine, FakeWorld(errors={2: TypeError("a bug")}))
        engine.play(0.0)
        engine.thread.join(LIMIT)
    finally:
        threading.excepthook = previous
    assert hooked == [TypeError]
    assert engine.status.phase is Phase.STOPPED
    assert "report" in engine.status.text


def test_closing_in_the_middle_of_a_chunk_waits_for_it_and_ends(make_engine: Callable[..., LocalEngine]) -> None:
    engine = make_engine()
    world = FakeWorld(seconds=0.05)
    opened(engine, world)
    engine.play(0.0)
    assert engine.close()
    assert not engine.thread.is_alive()
    assert engine.status.phase is Phase.STOPPED


def test_the_number_of_threads_is_the_engines_own(make_engine: Callable[..., LocalEngine]) -> None:
    import torch

    here = torch.get_num_threads()  # from now on this thread's number is its own

    class MoreThreads(FakeWorld):
        def start(self, *args: Any, **options: Any) -> FakeSession:
            torch.set_num_threads(here + 1)
            return super().start(*args, **options)

    try:
        assert opened(make_engine(), MoreThreads()).build.threads == here + 1
        assert torch.get_num_threads() == here
    finally:
        torch.set_num_threads(here)


class Hours:
    """A clock that only a world's work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def world(self, name: str, seconds: float) -> FakeWorld:
        clock = self

        class Working(FakeWorld):
            def before_step(self, index: int) -> None:
                clock.now += seconds

        return Working(fake_spec(name=name), identity={"model": name, "sha256": "0" * 64})


@pytest.mark.parametrize(("seconds", "played"), [(0.12, "large"), (0.19, "small")])
def test_a_model_that_does_not_keep_up_gives_way_to_the_smaller_one_and_the_recording_says_so(
    make_engine: Callable[..., LocalEngine], seconds: float, played: str
) -> None:
    hours = Hours()
    engine = make_engine(clock=hours)
    WORLDS["large"], WORLDS["small"] = (lambda: hours.world("large", seconds)), (lambda: hours.world("small", 0.5))
    engine.post(Load(LoadRequest("large", smaller="small")))
    loaded = next_event(engine)
    assert isinstance(loaded, Loaded)
    assert loaded.spec.name == played
    assert loaded.note == ("" if played == "large" else "large: 190 ms for what lasts 200, so small is played here.")
    engine.post(Begin(None, None, 1))
    begun = next_event(engine)
    assert isinstance(begun, Opened)
    setup = ModelSetup.of(begun.spec, begun.identity)
    assert (setup.name, setup.instead_of) == (played, None if played == "large" else "large: 190 ms")
    WORLDS.clear()
