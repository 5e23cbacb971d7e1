"""A recording process is killed at random moments; every folder it leaves becomes a valid clip."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scope_play import cli
from scope_play.errors import ScopeError
from scope_play.recording.clip import frame_hash, read_clip
from scope_play.recording.journal import JOURNAL
from scope_play.recording.recover import recover
from scope_play.recording.video import read_frames
from tests.helpers.fake_world import FakeWorld
from tests.helpers.recordings import header_of, random_rows, record

ROOT = Path(__file__).parents[2]
SECOND = 20

CHILD = """
import os, sys, time
from pathlib import Path
import numpy as np
from scope_play.recording.recorder import Recorder
from tests.helpers.fake_world import FakeWorld
from tests.helpers.recordings import header_of, random_rows

root, chunks, pause, dies = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "dies"
world = FakeWorld()
while True:
    session = world.start(None, "a yard", 3)
    rng = np.random.default_rng(5)
    recorder = Recorder(root, header_of(world), session.first_frame)
    for number in range(chunks):
        rows = random_rows(rng)
        recorder.add_chunk(session.step(rows).frames, rows, 0.0, 0.0, 0)
        print(recorder.path.name, recorder.status.frames, flush=True)
        time.sleep(pause)
    if dies:
        time.sleep(0.5)
        os._exit(9)
    recorder.close("quit")
"""


def start(root: Path, chunks: int, pause: float, end: str) -> subprocess.Popen[str]:
    """A process that makes clips of `chunks` chunks one after another, and says what it has handed to the recorder."""
    arguments = [sys.executable, "-c", CHILD, str(root), str(chunks), str(pause), end]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def kill(process: subprocess.Popen[str], delay: float) -> tuple[str, int]:
    """Kills the process `delay` seconds after its first chunk; the folder and the number of frames it last named."""
    assert process.stdout is not None
    said = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read()
    process.wait()
    process.stdout.close()
    name, frames = said[: said.rindex("\n")].splitlines()[-1].split()
    return name, int(frames)


def check_what_is_left(root: Path, name: str, accepted: int) -> None:
    for partial in sorted(root.glob("*.partial")):
        recover(partial)
    clips = [read_clip(path) for path in root.iterdir() if not path.name.startswith(".")]
    assert clips
    rng, session = np.random.default_rng(5), FakeWorld().start(None, "a yard", 3)
    rows = np.concatenate([random_rows(rng) for _ in range(12)])
    hashes = [frame_hash(session.first_frame)]
    hashes += [frame_hash(frame) for i in range(12) for frame in session.step(rows[4 * i : 4 * i + 4]).frames]
    for clip in clips:
        frames = clip.metadata.frames
        assert clip.metadata.video_frames == frames == len(list(read_frames(clip.video)))
        assert np.array_equal(clip.rows[: frames - 1], rows[: frames - 1])
        assert list(clip.columns.frame_hash) == hashes[:frames]
        if clip.path.name == name.removesuffix(".partial"):
            assert accepted - frames <= SECOND
        else:
            assert frames == 49 or clip.path.name > name  # an earlier clip was closed; a later one had just begun


def kill_and_check(tmp_path: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    for first in range(0, kills, 3):
        roots = [tmp_path / str(number) for number in range(first, min(first + 3, kills))]
        processes = [start(root, 12, 0.04, "goes on") for root in roots]
        last_words = [kill(process, moments.uniform(0, 0.6)) for process in processes]
        for root, (name, accepted) in zip(roots, last_words, strict=True):
            check_what_is_left(root, name, accepted)
            shutil.rmtree(root)


def test_every_recording_survives_a_kill(tmp_path: Path) -> None:
    kill_and_check(tmp_path, kills=15, seed=0)


@pytest.mark.slow
def test_every_recording_survives_fifty_kills(tmp_path: Path) -> None:
    kill_and_check(tmp_path, kills=50, seed=1)


def interrupted(root: Path, chunks: int) -> Path:
    """A `.partial` folder as a process that died leaves it."""
    process = start(root, chunks, 0.0, "dies")
    process.communicate(timeout=60)
    return next(root.glob("*.partial"))


def test_recover_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partial = interrupted(tmp_path, 10)
    assert cli.main(["recover", str(partial)]) == 0
    clip = partial.with_name(partial.name.removesuffix(".partial"))
    assert str(clip) in capsys.readouterr().out
    assert not partial.exists()
    assert read_clip(clip).metadata.ending.reason == "interrupted"
    assert read_clip(clip).metadata.ending.clean is False
    assert cli.main(["recover", str(partial)]) == 2
    assert "is not an interrupted recording" in capsys.readouterr().err


def test_any_cut_of_journal_and_video_recovers(tmp_path: Path) -> None:
    partial = interrupted(tmp_path / "original", 10)
    journal, video = (partial / JOURNAL).read_bytes(), (partial / "video.mp4").read_bytes()
    head = journal.index(b"\n") + 1
    cuts = random.Random(3)
    for _ in range(25):
        copy = tmp_path / "copy.partial"
        shutil.copytree(partial, copy)
        (copy / JOURNAL).write_bytes(journal[: cuts.randint(head, len(journal))])
        (copy / "video.mp4").write_bytes(video[: cuts.randint(0, len(video))])
        finished = recover(copy)
        clip = read_clip(finished.path)
        assert clip.metadata.frames == clip.metadata.video_frames == finished.frames
        shutil.rmtree(finished.path)


def test_an_interrupted_recovery_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = interrupted(tmp_path, 8)

    def fail(*_: object) -> None:
        raise ScopeError("killed here")

    for step in ("write_columns", "write_metadata", "_rename"):
        with monkeypatch.context() as patch:
            patch.setattr(f"scope_play.recording.recover.{step}", fail)
            with pytest.raises(ScopeError, match="killed here"):
                recover(partial)
    (partial / ".video-0123abcd.mp4").write_bytes(b"left behind")
    clip = read_clip(recover(partial).path)
    assert clip.metadata.frames in (29, 33)
    assert not [path.name for path in clip.path.iterdir() if path.name.startswith(".")]


def test_a_recording_in_progress_is_left_alone(tmp_path: Path) -> None:
    from scope_play.recording.recorder import Recorder

    world = FakeWorld()
    recorder = Recorder(tmp_path, header_of(world), world.start().first_frame)
    with pytest.raises(ScopeError, match="still being recorded"):
        recover(recorder.path)
    assert recorder.close("quit") is not None


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "x.partial"
    empty.mkdir()
    with pytest.raises(ScopeError, match=r"actions\.journal cannot be read"):
        recover(empty)
    (empty / JOURNAL).write_bytes(b'{"schema": 99}\n')
    with pytest.raises(ScopeError, match="nothing in it to recover"):
        recover(empty)
    taken = interrupted(tmp_path / "taken", 6)
    shutil.copytree(record(tmp_path / "other", 1), taken.with_name(taken.name.removesuffix(".partial")))
    with pytest.raises(ScopeError, match="already exists"):
        recover(taken)
