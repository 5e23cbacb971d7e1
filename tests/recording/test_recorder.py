"""The recorder: what ends up in the folder, and what happens when the disk is slow, full or forbidden."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scope_play.actions import read_actions
from scope_play.errors import ScopeError
from scope_play.recording.clip import ACTIONS, frame_hash, read_clip
from scope_play.recording.metadata import Branch, Ending, Prompt
from scope_play.recording.recorder import Recorder
from scope_play.recording.recover import recover
from scope_play.recording.video import count_frames, read_frames
from tests.helpers.bad_disk import Stall, full_after
from tests.helpers.fake_world import FakeWorld, fake_spec
from tests.helpers.recordings import header_of, random_rows, record

ROOT = str(Path(__file__).parents[2])


def test_a_clip_holds_what_was_given_and_shown(tmp_path: Path) -> None:
    clip = read_clip(record(tmp_path / "new" / "folder", 6))
    assert sorted(path.name for path in clip.path.iterdir()) == [
        "actions_raw.parquet", "first.png", "metadata.json", "video.mp4",
    ]  # fmt: skip
    rng, session = np.random.default_rng(5), FakeWorld().start(None, "a yard", 3)
    rows = [random_rows(rng) for _ in range(6)]
    frames = np.concatenate([session.first_frame[None], *(session.step(row).frames for row in rows)])
    assert np.array_equal(clip.rows, np.concatenate([*rows, rows[-1][-1:]]))
    assert clip.columns.frame_hash == tuple(map(frame_hash, frames))
    assert np.array_equal(np.asarray(Image.open(clip.path / "first.png")), frames[0])
    shown = np.stack(list(read_frames(clip.video)))
    assert shown.shape == frames.shape
    assert np.abs(shown.astype(int) - frames).mean() < 8  # lossy, but each frame is its own
    assert clip.columns.chunk.tolist() == [0] + [k for k in range(1, 7) for _ in range(4)]
    assert clip.columns.t_sampled[:24:4].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert clip.columns.t_shown[1::4].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
    assert clip.metadata.ending == Ending("quit")
    assert clip.metadata.header == header_of(FakeWorld()).__class__(
        **{**vars(header_of(FakeWorld())), "started": clip.metadata.header.started}
    )


def test_the_action_file_is_one_the_reference_reads(tmp_path: Path) -> None:
    path = record(tmp_path, 3) / ACTIONS
    names = pq.read_schema(path).names
    assert names[:8] == ["right_trigger", "left_trigger", "south", "right_thumb", "west", "north", "j_left", "j_right"]
    assert names[8:] == ["frame", "chunk", "t_sampled", "t_shown", "prompt_id", "frame_hash"]
    assert pq.read_table(path).column("frame").to_pylist() == list(range(13))
    assert len(read_actions(path)) == 13


def test_odd_sizes_and_longer_chunks(tmp_path: Path) -> None:
    world = FakeWorld(fake_spec(height=45, width=77))
    assert next(read_frames(read_clip(record(tmp_path, 2, world=world)).video)).shape == (45, 77, 3)


def test_rewinds_name_the_chunk_they_go_back_to(tmp_path: Path) -> None:
    # Recorded 1 2 3 4, back to 2, then 5 6 (which are the session's 3 and 4), back to the session's 3: recorded 5.
    clip = read_clip(record(tmp_path, 8, rewinds={4: 2, 6: 3}))
    assert clip.metadata.branches == (Branch(17, 2), Branch(25, 5))
    assert clip.segments() == [range(0, 17), range(17, 25), range(25, 33)]


def test_a_recording_begun_during_play_can_go_back_before_its_beginning(tmp_path: Path) -> None:
    clip = read_clip(record(tmp_path, 4, begin_after=5, rewinds={2: 3, 3: 0}))
    assert clip.metadata.branches == (Branch(9, -2), Branch(13, -5))
    assert clip.rows_before().shape == (20, 10)
    assert clip.metadata.before is not None
    assert clip.metadata.before.prompts == (Prompt(0, 0, "a yard"),)
    assert np.array_equal(clip.start_image(), FakeWorld().start(None, "a yard", 3).first_frame)


def test_prompts_are_kept_by_frame(tmp_path: Path) -> None:
    clip = read_clip(record(tmp_path, 5, prompts={2: "snow", 4: "night"}))
    assert clip.metadata.prompts == (Prompt(0, 0, "a yard"), Prompt(1, 9, "snow"), Prompt(2, 17, "night"))
    assert clip.columns.prompt_id.tolist() == [0] * 9 + [1] * 8 + [2] * 4


def test_a_recording_without_a_chunk_is_one_frame(tmp_path: Path) -> None:
    clip = read_clip(record(tmp_path, 0))
    assert clip.rows.tolist() == [[0.0] * 10]
    assert clip.metadata.video_frames == 1


def test_misuse_is_an_error_at_once(tmp_path: Path) -> None:
    world = FakeWorld()
    session = world.start()
    recorder = Recorder(tmp_path, header_of(world), session.first_frame)
    rows = np.zeros((4, 10), np.float32)
    frames = session.step(rows).frames
    for bad in ((frames[:3], rows, 0), (frames, rows[:3], 0), (frames.astype(np.float32), rows, 0), (frames, rows, 7)):
        with pytest.raises(ValueError):
            recorder.add_chunk(bad[0], bad[1], 0.0, 0.0, bad[2])
    with pytest.raises(ValueError, match="rewind to chunk 1"):
        recorder.mark({"event": "rewind", "to_chunk": 1})
    recorder.mark({"event": "unplugged"})
    clip = recorder.close("quit")
    assert clip is not None
    assert read_clip(clip).metadata.events == ({"event": "unplugged", "frame": 1},)
    assert recorder.status.state == "closed"
    recorder.add_chunk(frames, rows, 0.0, 0.0, 0)  # a late chunk changes nothing
    assert recorder.close("again") == clip
    assert read_clip(clip).metadata.frames == 1


def test_a_slow_disk_costs_the_video_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stall = Stall(tmp_path, b"moof", monkeypatch)
    # For the video's file an hour goes by while it stands still.
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + 3600.0 * stall.reached.is_set())
    monkeypatch.setattr("scope_play.recording.video.time", clock)
    world = FakeWorld()
    session = world.start(None, "a yard", 3)
    recorder = Recorder(tmp_path, header_of(world), session.first_frame)
    rng = np.random.default_rng(0)
    rows, hashes = [], [frame_hash(session.first_frame)]
    for number in range(30):
        rows.append(random_rows(rng))
        chunk = session.step(rows[-1])
        hashes += map(frame_hash, chunk.frames)
        recorder.add_chunk(chunk.frames, rows[-1], 0.0, 0.0, 0)
        if number == 1:
            assert stall.reached.wait(30)
    assert recorder.status.state == "degraded"
    assert recorder.status.text == "disk too slow, keeping actions only"
    stall.go.set()
    path = recorder.close("quit")
    assert path is not None
    clip = read_clip(path)
    assert np.array_equal(clip.rows[:120], np.concatenate(rows))
    assert clip.columns.frame_hash == tuple(hashes)
    assert clip.metadata.frames == 121
    assert clip.metadata.video_frames == count_frames(clip.video) <= 45
    assert clip.metadata.ending.video_problem == "disk too slow, keeping actions only"


def record_until_full(root: Path, patch: pytest.MonkeyPatch) -> Recorder:
    """Records for as long as it goes, and closes."""
    patch.setattr("scope_play.recording.recorder.QUEUE_SECONDS", float("inf"))  # video may wait as long as it likes
    world = FakeWorld()
    session = world.start(None, "a yard", 3)
    recorder = Recorder(root, header_of(world), session.first_frame)
    rng = np.random.default_rng(0)
    for _ in range(CHUNKS_ENOUGH):
        if recorder.status.state != "recording":
            break
        rows = random_rows(rng)
        recorder.add_chunk(session.step(rows).frames, rows, 0.0, 0.0, 0)
    return recorder


CHUNKS_ENOUGH = 120
"""Far more than the disks below hold."""

RECORD = """
import resource, sys
from pathlib import Path
import pytest
from tests.helpers.bad_disk import full_after
from tests.recording.test_recorder import record_until_full
root, limit, of = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with pytest.MonkeyPatch.context() as patch:
    full_after(limit, root, patch) if of == "disk" else resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    recorder = record_until_full(root, patch)
    print(recorder.close("quit"), recorder.status.state, recorder.status.text, sep="|")
"""


def recorded_elsewhere(root: Path, limit: int, of: str) -> list[str]:
    """What a process of its own says that records until a file, or the disk, holds `limit` bytes."""
    script = [sys.executable, "-c", RECORD, str(root), str(limit), of]
    return subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip().split("|")


def whole_chunks(video: Path) -> int:
    """Frames of the chunks that a video holds wholly, the first picture included."""
    return (count_frames(video) - 1) // 4 * 4 + 1


def test_a_file_that_cannot_grow_stops_the_recording_and_keeps_what_was_written(tmp_path: Path) -> None:
    path, state, text = recorded_elsewhere(tmp_path, 100_000, "file")
    assert state == "stopped"
    assert text.startswith("disk full: File too large")
    clip = read_clip(path) if path != "None" else read_clip(recover(next(tmp_path.glob("*.partial"))).path)
    assert clip.metadata.frames > 40
    assert clip.metadata.video_frames == clip.metadata.frames


def test_a_full_disk_stops_the_recording_and_it_can_be_recovered_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    disk.mkdir()
    elsewhere.mkdir()
    path, state, text = recorded_elsewhere(disk, 150_000, "disk")
    assert (path, state) == ("None", "stopped")
    assert text.startswith("disk full: No space left on device")
    assert "scope-play recover" in text
    full_after(150_000, disk, monkeypatch)
    partial = next(disk.glob("*.partial"))
    kept = {file.name: file.stat().st_size for file in partial.iterdir()}
    with pytest.raises(ScopeError, match="free some space"):
        recover(partial)
    finished = recover(partial, into=elsewhere)
    assert {file.name: file.stat().st_size for file in partial.iterdir()} == kept
    assert read_clip(finished.path).metadata.frames == whole_chunks(partial / "video.mp4") > 40


def test_a_folder_that_cannot_be_written_is_refused_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    world = FakeWorld()
    with pytest.raises(ScopeError, match=r"No recording can be written to .*file"):
        Recorder(tmp_path / "file" / "clips", header_of(world), world.start().first_frame)
    assert all(t.name != "recorder" for t in threading.enumerate())


def test_a_crash_of_the_app_still_closes_the_clip(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\nfrom tests.helpers.recordings import *\nworld = FakeWorld()\n"
        f"recorder = Recorder(Path({str(tmp_path)!r}), header_of(world), world.start().first_frame)\n"
        "raise RuntimeError('the app broke')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "the app broke" in done.stderr
    (clip,) = tmp_path.iterdir()
    assert read_clip(clip).metadata.ending == Ending("the program ended")
