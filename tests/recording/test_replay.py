"""Replay: the same frames again, whatever happened during play, and a clear word on the first that is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play import cli
from scope_play.actions import read_actions, write_actions
from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.recording.clip import ACTIONS, read_clip
from scope_play.recording.replay import (
    Difference,
    clip_script,
    file_script,
    find_actions,
    first_difference,
    play,
    setup_differences,
)
from scope_play.recording.video import count_frames, read_frames
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.fake_world import FakeWorld, fake_spec
from tests.helpers.recordings import header_of, record


def check(path: Path, world: FakeWorld | None = None) -> Difference | None:
    script = clip_script(read_clip(path))
    return first_difference(script, play(script, world or FakeWorld()))


def change_row(clip: Path, row: int) -> None:
    """One stick value of one row, all else as it was."""
    import pyarrow.parquet as pq

    table = pq.read_table(clip / ACTIONS)
    rows = read_actions(clip / ACTIONS)
    rows[row, 8] = -rows[row, 8]
    extra = {name: table.column(name).to_pylist() for name in table.column_names[8:]}
    write_actions(clip / ACTIONS, rows, extra)


def test_a_recording_replays_to_the_same_frames(tmp_path: Path) -> None:
    clip = record(tmp_path, 10)
    assert check(clip) is None
    script = clip_script(read_clip(clip))
    numbers = [number for number, _ in play(script, FakeWorld())]
    assert numbers == list(range(41))


@pytest.mark.parametrize("row", [0, 5, 17, 39])
def test_a_changed_action_is_found_at_the_frame_it_first_changes(tmp_path: Path, row: int) -> None:
    clip = record(tmp_path, 10)
    change_row(clip, row)
    assert check(clip) == Difference(frame=row + 1, chunk=row // 4 + 1)  # row r is first seen in frame r + 1


def test_the_row_of_the_last_frame_was_never_used(tmp_path: Path) -> None:
    clip = record(tmp_path, 10)
    change_row(clip, 40)
    assert check(clip) is None


def test_rewinds_are_followed(tmp_path: Path) -> None:
    assert check(record(tmp_path, 12, rewinds={4: 2, 6: 3, 9: 0})) is None


def test_a_recording_begun_during_play_replays_what_came_before_it(tmp_path: Path) -> None:
    clip = record(tmp_path, 6, begin_after=5, rewinds={2: 3, 4: 0})
    assert check(clip) is None
    assert check(record(tmp_path, 0, begin_after=2)) is None
    assert check(record(tmp_path, 2, begin_after=4, rewinds={0: 1})) is None


def test_prompts_change_where_they_did(tmp_path: Path) -> None:
    assert check(record(tmp_path, 8, prompts={2: "snow", 5: "a long night"})) is None
    assert check(record(tmp_path, 8, prompts={2: "snow", 5: "a long night"}, rewinds={4: 1})) is None


def test_any_course_of_play_replays(tmp_path: Path) -> None:
    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def property_holds(data: st.DataObject) -> None:
        chunks, earlier = data.draw(st.integers(1, 10)), data.draw(st.integers(0, 3))
        rewinds, at = {}, earlier
        for number in range(chunks):
            if data.draw(st.booleans()):
                at = rewinds[number] = data.draw(st.integers(0, at))
            at += 1
        prompts = {
            n: data.draw(st.text(max_size=5)) for n in data.draw(st.sets(st.integers(0, chunks - 1), max_size=3))
        }
        assert check(record(tmp_path, chunks, rewinds=rewinds, prompts=prompts, begin_after=earlier)) is None

    property_holds()


def test_snapshots_are_kept_only_as_long_as_they_are_needed(tmp_path: Path) -> None:
    script = clip_script(read_clip(record(tmp_path, 8, rewinds={3: 1, 5: 1})))
    restored: list[int] = []

    class Watched(FakeWorld):
        def start(self, *args: object, **kwargs: object) -> object:
            session = super().start(*args, **kwargs)  # type: ignore[arg-type]
            taken = session.snapshot
            session.snapshot = lambda: restored.append(session.index) or taken()  # type: ignore[method-assign]
            return session

    assert first_difference(script, play(script, Watched())) is None
    assert restored == [1]


def test_chunks_of_another_length_are_refused(tmp_path: Path) -> None:
    script = clip_script(read_clip(record(tmp_path, 2)))
    with pytest.raises(ScopeError, match="chunks of 4 frames and fake makes 8"):
        next(play(script, FakeWorld(fake_spec(stream=StreamConfig(chunk=2)))))


def test_a_changed_setup_is_named() -> None:
    header = header_of(FakeWorld())
    assert setup_differences(header, FakeWorld()) == []
    other = FakeWorld(
        fake_spec(stream=StreamConfig(steps=4, window=9), precision="bf16"),
        identity={"model": "fake", "sha256": "f" * 64},
    )
    assert setup_differences(header, other) == [
        "weights sha256 ffffffffffff…, recorded with 000000000000…",
        "steps 4, recorded with 2",
        "precision bf16, recorded with fp32",
    ]


def test_a_bare_action_file_is_played_on_an_image(tmp_path: Path) -> None:
    rows = np.zeros((6, 10), np.float32)
    rows[:, 9] = np.linspace(-1, 1, 6)
    write_actions(tmp_path / "actions.parquet", rows)
    script = file_script(find_actions(tmp_path), image=None, seed=1, prompt=None, frames_per_chunk=4)
    assert np.array_equal(np.concatenate([beat.rows for beat in script.beats]), rows[[0, 1, 2, 3, 4, 5, 5, 5]])
    assert [number for number, _ in play(script, FakeWorld())] == list(range(9))
    with pytest.raises(ScopeError, match="nothing to check it against"):
        first_difference(script, play(script, FakeWorld()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScopeError, match=r"nor a folder with one of actions_raw\.parquet"):
        find_actions(tmp_path / "empty")


def test_81_rows_are_81_frames(tmp_path: Path) -> None:
    write_actions(tmp_path / "a.parquet", np.zeros((81, 10), np.float32))
    script = file_script(tmp_path / "a.parquet", image=None, seed=0, prompt=None, frames_per_chunk=4)
    assert len(script.beats) == 20


@pytest.fixture
def fake_load(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """`open_world` gives a fake; what it was asked for is kept, and `world` in it may be changed."""
    from scope_play import world

    asked: dict[str, object] = {"world": FakeWorld()}

    def load(request: LoadRequest) -> object:
        asked.update(vars(request))
        return asked["world"]

    monkeypatch.setattr(world, "open_world", load)
    return asked


def test_the_command_checks_a_clip(tmp_path: Path, fake_load: dict, capsys: pytest.CaptureFixture[str]) -> None:
    clip = record(tmp_path, 5)
    assert cli.main(["replay", str(clip)]) == 0
    assert "all 21 frames" in capsys.readouterr().out
    assert {key: fake_load[key] for key in ("model", "device", "precision", "steps", "window", "chunk")} == {
        "model": "fake", "device": "cpu", "precision": "fp32", "steps": 2, "window": 9, "chunk": 1,
    }  # fmt: skip
    change_row(clip, 9)
    assert cli.main(["replay", str(clip), "--check"]) == 1
    out = capsys.readouterr().out
    assert "frame 10 (0.50 s, chunk 3) is the first" in out
    assert "the setup is the same" in out
    fake_load["world"] = FakeWorld(fake_spec(stream=StreamConfig(steps=1, window=9)))
    assert cli.main(["replay", str(clip), "--seed", "8"]) == 1
    out = capsys.readouterr().out
    assert "steps 1, recorded with 2" in out
    assert "seed 8, recorded with 3" in out


@pytest.mark.parametrize(("size", "name"), [((96, 160), "nano-96x160"), ((192, 320), "nano")])
def test_clips_from_before_the_larger_picture_are_replayed_by_the_smaller_nano(
    tmp_path: Path, fake_load: dict, size: tuple[int, int], name: str
) -> None:
    spec = fake_spec(name="nano", height=size[0], width=size[1])
    world = FakeWorld(spec, identity={"model": "nano", "sha256": "0" * 64})
    fake_load["world"] = world
    assert cli.main(["replay", str(record(tmp_path, 2, world=world)), "--check"]) == 0
    assert fake_load["model"] == name


def test_the_command_writes_the_video_anew(tmp_path: Path, fake_load: dict, capsys: pytest.CaptureFixture[str]) -> None:
    clip = record(tmp_path / "clips", 5, rewinds={3: 1})
    out = tmp_path / "new.mp4"
    out.write_bytes(b"an old file")
    change_row(clip, 2)
    assert cli.main(["replay", str(clip), "--out", str(out), "--check"]) == 1  # checked, and written to the end
    assert count_frames(out) == 21
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "new.mp4"]
    assert np.stack(list(read_frames(out))).shape == (21, 48, 80, 3)
    assert cli.main(["replay", str(clip / ACTIONS), "--out", str(tmp_path / "b.mp4"), "--seed", "1"]) == 0
    assert count_frames(tmp_path / "b.mp4") == 21


def test_the_command_shows_a_clip(tmp_path: Path, fake_load: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    clip = record(tmp_path, 1)
    assert cli.main(["replay", str(clip), "--show", "--out", str(tmp_path / "a.mp4")]) == 0
    assert count_frames(tmp_path / "a.mp4") == 5
    assert cli.main(["replay", str(clip / ACTIONS), "--show", "--check"]) == 2


def test_an_interrupted_replay_leaves_the_old_file(tmp_path: Path, fake_load: dict) -> None:
    clip = record(tmp_path / "clips", 5)
    out = tmp_path / "new.mp4"
    out.write_bytes(b"an old file")
    fake_load["world"] = FakeWorld(errors={3: ScopeError("the model broke.")})
    assert cli.main(["replay", str(clip), "--out", str(out)]) == 2
    assert out.read_bytes() == b"an old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "new.mp4"]


def test_bad_requests_are_one_sentence(tmp_path: Path, fake_load: dict, capsys: pytest.CaptureFixture[str]) -> None:
    clip = record(tmp_path / "clips", 2)
    bare = tmp_path / "bare.parquet"
    write_actions(bare, np.zeros((5, 10), np.float32))
    (tmp_path / "x.partial").mkdir()
    cases = {
        ("replay", str(tmp_path / "absent")): "neither an action file nor a folder",
        ("replay", str(tmp_path / "x.partial")): "scope-play recover",
        ("replay", str(clip), "--image", "a.png"): "--image is for action files",
        ("replay", str(clip), "--out", "a.avi"): "must end in .mp4",
        ("replay", str(bare)): "Say what to do",
        ("replay", str(bare), "--check"): "no frame hashes",
        ("replay", str(clip), "--out", str(tmp_path / "no" / "a.mp4")): "is not a folder",
    }
    for arguments, sentence in cases.items():
        assert cli.main(list(arguments)) == 2, arguments
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def test_metadata_with_a_fault_is_refused_by_key(tmp_path: Path) -> None:
    clip = record(tmp_path, 2)
    good = json.loads((clip / "metadata.json").read_text())

    def refused(change: object, *keys: str) -> str:
        data = json.loads(json.dumps(good))
        inner = data
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = change
        (clip / "metadata.json").write_text(json.dumps(data))
        with pytest.raises(ScopeError) as caught:
            read_clip(clip)
        assert str(clip) in str(caught.value)
        return str(caught.value)

    assert "None in header.model.sha256" in refused(None, "header", "model", "sha256")
    assert "no header.fps" in refused({}, "header")
    assert "'2' in header.model.steps" in refused("2", "header", "model", "steps")
    assert "schema 7" in refused(7, "schema")
    assert "8 frames, but" in refused(8, "frames")
    assert "8 video_frames for 9 frames" in refused(8, "video_frames")
    assert "before it" in refused([{"frame": 5, "source_chunk": 4}], "branches")
    assert "no prompt with id 0" in refused([], "prompts")
    assert "frames_per_chunk 0" in refused(0, "header", "frames_per_chunk")
    (clip / "metadata.json").write_text("{")
    with pytest.raises(ScopeError, match="cannot be read"):
        read_clip(clip)


@pytest.mark.usefixtures("quick_look")
def test_a_real_world_replays_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scope_play.recording.metadata import ClipHeader
    from scope_play.recording.recorder import Recorder
    from scope_play.world import World
    from tests.helpers.recordings import random_rows

    world = World.load("nano", device="cpu", steps=1)
    session = world.start(seed=4)
    recorder = Recorder(tmp_path, ClipHeader.of(world.spec, world.identity, seed=4), session.first_frame)
    rng = np.random.default_rng(0)
    after_two = None
    for number in range(5):
        if number == 2:
            after_two = session.snapshot()
        if number == 4:
            session.restore(after_two)
            recorder.mark({"event": "rewind", "to_chunk": 2})
        rows = random_rows(rng)
        recorder.add_chunk(session.step(rows).frames, rows, 0.0, 0.0, 0)
    clip = recorder.close("quit")
    assert clip is not None
    assert cli.main(["replay", str(clip), "--check"]) == 0
    change_row(clip, 9)
    assert cli.main(["replay", str(clip), "--check"]) == 1
    assert "chunk 3) is the first" in capsys.readouterr().out
