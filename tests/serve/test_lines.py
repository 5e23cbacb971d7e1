"""Bad lines: cut, late, slow or standing still, nothing is made twice, nothing is lost, and delay does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scope_play.actions import ROW_WIDTH, write_actions
from scope_play.bench.line import Line
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.protocol import (
    Begin,
    Event,
    Failed,
    GoBack,
    Interrupted,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    Refused,
    SetPrompt,
    WentBack,
)
from scope_play.play.engine.remote import RemoteEngine, connected
from scope_play.play.headless import play_file
from scope_play.play.playback import Playback
from scope_play.recording.clip import read_clip
from scope_play.recording.metadata import ClipHeader
from scope_play.recording.recorder import Recorder
from scope_play.recording.replay import clip_script, first_difference, play
from scope_play.wire import messages
from scope_play.wire.header import FRAME, Picture, read_picture
from scope_play.wire.world import RemoteWorld
from tests.helpers.fake_world import FakeWorld, fake_spec
from tests.helpers.serving import LIMIT, TOKEN, Raw, serving


def numbered(n: int) -> Callable[[float, int], np.ndarray]:
    """Rows that tell one chunk from the next."""
    count = 0

    def take(now: float, rows: int) -> np.ndarray:
        nonlocal count
        count += 1
        taken = np.zeros((rows, ROW_WIDTH), np.float32)
        taken[:, 8] = (count % n) / n
        return taken

    return take


def next_event(engine: RemoteEngine, kind: type[Any], passing: Callable[[Made], None] = lambda made: None) -> Any:
    """The next event of that kind; chunks that come before it go to `passing`."""
    for _ in range(1000):
        assert engine.wait(LIMIT), engine.status
        event: Event | None = engine.take()
        if isinstance(event, Made) and kind is not Made:
            passing(event)
        if isinstance(event, kind):
            return event
        assert not isinstance(event, Failed), event
    raise AssertionError(f"no {kind.__name__} came")


def chunk(engine: RemoteEngine) -> Made:
    while True:
        engine.play(0.0)
        if engine.wait(0.02):
            made: Made = next_event(engine, Made)
            return made


def same_again(clip: Path) -> None:
    script = clip_script(read_clip(clip))
    assert first_difference(script, play(script, FakeWorld())) is None


def test_a_file_played_elsewhere_is_recorded_here(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    rows = np.concatenate([chance.integers(0, 2, (21, 6)), chance.uniform(-1, 1, (21, 4))], axis=1).astype(np.float32)
    write_actions(tmp_path / "rows.parquet", rows)
    with serving(tmp_path / "there") as served:
        clip = play_file(
            LoadRequest("elsewhere"),
            Begin(prompt="red", seed=4),
            tmp_path / "rows.parquet",
            tmp_path / "here",
            make_engine=connected(served.url),
        )
    np.testing.assert_array_equal(read_clip(clip).rows[:20], rows[:20])
    same_again(clip)


def test_ten_cuts_a_prompt_and_a_rewind_in_one_recording(tmp_path: Path) -> None:
    with serving(tmp_path) as served, Line(served.port) as line:
        engine = RemoteEngine(f"http://127.0.0.1:{line.port}/#{TOKEN}", numbered(50))
        engine.post(Load(LoadRequest("elsewhere")))
        assert next_event(engine, Loaded).picture.shape == (48, 80, 3)
        engine.post(Begin(prompt="red", seed=2))
        opened: Opened = next_event(engine, Opened)
        header = ClipHeader.of(opened.spec, opened.identity, build=opened.build, seed=2, prompt="red")
        recorder = Recorder(tmp_path / "here", header, opened.first_frame)
        prompts = {"red": 0}
        indices: list[int] = []

        def add(made: Made) -> None:
            if made.prompt not in prompts:
                prompts[made.prompt or ""] = len(prompts)
                recorder.mark({"event": "prompt", "id": prompts[made.prompt or ""], "text": made.prompt})
            indices.append(made.index)
            recorder.add_chunk(made.frames, made.rows, made.sampled, made.ready, prompts[made.prompt or ""])

        for number in range(10):
            for _ in range(3):
                add(chunk(engine))
            if number == 3:
                engine.post(SetPrompt("a blue room"))
            engine.play(0.0)  # on its way when the line breaks
            line.cut()
            assert "lost" in next_event(engine, Interrupted, add).text
            lost_at = engine._clock()
            assert "stands again" in next_event(engine, Interrupted, add).text
            assert engine._clock() - lost_at < 1.0
            assert engine.status.phase is Phase.PAUSED
            if number == 6:
                engine.post(GoBack(8))
                assert next_event(engine, WentBack, add).chunk == 8
                recorder.mark({"event": "rewind", "to_chunk": 8})
                del indices[8:]
        assert indices == list(range(1, len(indices) + 1))
        assert set(prompts) == {"red", "a blue room"}
        engine.close()
    clip = recorder.close("the test is over")
    assert clip is not None
    assert len(read_clip(clip).metadata.prompts) == 2
    same_again(clip)


def test_an_agent_steps_on_through_cuts(tmp_path: Path) -> None:
    local = FakeWorld().start(seed=6)
    take, same = numbered(20), numbered(20)
    with (
        serving(tmp_path) as served,
        Line(served.port) as line,
        RemoteWorld(f"http://127.0.0.1:{line.port}/#{TOKEN}") as world,
        world.start(seed=6) as session,
    ):
        for number in range(12):
            if number % 3 == 2:
                line.cut()
            np.testing.assert_array_equal(session.step(take(0, 4)).frames, local.step(same(0, 4)).frames)


def test_what_was_made_and_not_received_comes_again_and_only_once(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        raw = Raw(served).hello()
        welcome = raw.until(messages.Welcome)
        raw.send(messages.Start())
        raw.until(messages.Opened)
        raw.send(messages.Play(1000.0))
        for n in (1, 2, 3):
            raw.send(messages.Go(n, 1000.0 + 200 * n))
        first = pictures(raw, 3)
        raw.socket.socket.close()

        again = Raw(served).hello(resume=welcome.resume, have=1, shown=[[1, 1500.0]])
        taken_up = again.until(messages.Welcome)
        assert (taken_up.playing, taken_up.chunk, taken_up.limits["asked"]) == (True, 1, 3)
        repeated = pictures(again, 3)
        assert [picture.chunk for picture in repeated] == [2] * 4 + [3] * 4
        assert repeated[0].key
        assert [p.payload for p in repeated] == [p.payload for p in first if p.chunk > 1]
        again.send(messages.Go(4, 3000.0))
        assert {picture.chunk for picture in pictures(again, 4)} == {4}
        again.close()

        reloaded = Raw(served).hello(resume=welcome.resume)  # a page that was loaded anew has nothing in hand
        assert reloaded.until(messages.Welcome).chunk == 1
        still = read_picture(reloaded.until(bytes))
        assert (still.kind != FRAME, still.chunk, still.payload) == (True, 1, first[3].payload)
        reloaded.close()


def pictures(raw: Raw, last: int) -> list[Picture]:
    """Until the last frame of that chunk; stills are passed over."""
    found: list[Picture] = []
    while not found or (found[-1].chunk, found[-1].part) != (last, 3):
        picture = read_picture(raw.until(bytes))
        if picture.kind == FRAME:
            found.append(picture)
    return found


async def nothing(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_a_seat_is_held_and_then_given_on(tmp_path: Path) -> None:
    with serving(tmp_path, seats=1, hold=0.5) as served:
        raw = Raw(served).hello()
        secret = raw.until(messages.Welcome).resume
        waiting = Raw(served).hello()
        assert waiting.until(messages.Queue).place == 1
        behind = Raw(served).hello()
        assert behind.until(messages.Queue).place == 2
        raw.close()
        welcome = waiting.until(messages.Welcome)
        assert welcome.resume != secret
        assert behind.until(messages.Queue).place == 1
        waiting.close()
        behind.close()
        late = Raw(served).hello(resume=secret)
        assert late.until(messages.Welcome).resume != secret
        late.close()


def test_a_second_window_takes_the_game_up(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        raw = Raw(served).hello()
        secret = raw.until(messages.Welcome).resume
        other = Raw(served).hello(resume=secret)
        assert other.until(messages.Welcome).resume == secret
        raw.send(messages.Ping(1.0))
        assert "another window" in raw.until(messages.Error).text
        other.close()


def test_nobody_plays_for_long(tmp_path: Path) -> None:
    with serving(tmp_path, pause_after=0.2, free_after=2.5) as served:
        raw = Raw(served).hello()
        raw.until(messages.Welcome)
        raw.send(messages.Start())
        raw.send(messages.Play(1.0))
        assert raw.until(messages.Status).phase == "idle"
        while served.lobby.games:
            served.call(nothing(0.05))
        raw.send(messages.Ping(1.0))
        assert "Nobody played" in raw.until(messages.Error).text


def test_a_model_that_fails_ends_one_game_with_a_sentence(tmp_path: Path) -> None:
    world = FakeWorld(fake_spec(), errors={3: RuntimeError("CUDA out of memory")})
    with serving(tmp_path, lambda request: world) as served:
        raw = Raw(served).hello()
        raw.until(messages.Welcome)
        raw.send(messages.Start())
        raw.send(messages.Play(1.0))
        raw.send(messages.Go(1, 100.0))
        raw.send(messages.Go(2, 200.0))
        assert "Out of memory" in raw.until(messages.Failed).text
        raw.send(messages.Start())
        raw.until(messages.Opened)
        raw.close()


def test_a_refused_prompt_is_told_and_the_game_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, lambda request: Speechless()) as served:
        engine = RemoteEngine(served.url, numbered(9))
        engine.post(Load(LoadRequest("elsewhere")))
        next_event(engine, Loaded)
        engine.post(Begin())
        next_event(engine, Opened)
        chunk(engine)
        engine.post(SetPrompt("a red room"))
        assert "no prompt" in next_event(engine, Refused).text
        assert chunk(engine).prompt is None
        engine.close()


class Speechless(FakeWorld):
    def start(self, *args: Any, **kwargs: Any) -> Any:
        from scope_play.errors import ScopeError

        session = super().start(*args, **kwargs)

        def refuse(prompt: str) -> None:
            raise ScopeError("this world takes no prompt; leave it empty")

        session.set_prompt = refuse  # type: ignore[method-assign]
        return session


@pytest.mark.parametrize("trouble", ["delay", "stall"])
def test_delay_stays_what_the_line_makes_it(tmp_path: Path, trouble: str) -> None:
    """Played with a clock: chunks cost 60 ms and the way 120 ms; frames keep their beat, and after a standstill of the
    line the wait between asking and showing is back to what it was."""
    with serving(tmp_path, lambda request: FakeWorld(seconds=0.06)) as served, Line(served.port, 0.12) as line:
        engine = RemoteEngine(f"http://127.0.0.1:{line.port}/#{TOKEN}", numbered(9))
        playback = Playback(engine, engine._clock)
        engine.post(Load(LoadRequest("elsewhere")))
        next_event(engine, Loaded)
        playback.begin(Begin())
        delays: list[float] = []
        shown = 0
        while shown < 160:
            now = engine._clock()
            shot, _ = playback.tick(now)
            if playback.opened and not playback.playing:
                playback.resume()
            if shot and shot.made:
                shown += 1
                playback.presented(shot, now, now)
                if shot.part == 0:
                    delays.append(now - shot.made.sampled)
                if shown == 80 and trouble == "stall":
                    line.stall(1.0)
            engine.wait(0.002)
        engine.close()
    before, after = np.median(delays[8:19]), np.median(delays[-8:])
    assert before < 0.06 + 0.12 + 0.1
    assert after - before < 0.025
