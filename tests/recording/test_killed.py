"""A recording process is killed at random moments; every folder it leaves becomes a valid clip."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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

NURSERY = """
import os, sys
from pathlib import Path
from tests.helpers.recordings import record_clips

for line in sys.stdin:
    order, *words = line.rstrip("\\n").split("\\t")
    if order == "start":
        root, said, chunks, pause, end = words
        child = os.fork()
        if child == 0:
            record_clips(Path(root), Path(said), int(chunks), float(pause), end)
        print(child, flush=True)
    else:
        os.waitpid(int(words[0]), 0)
        print("gone", flush=True)
"""


class Recording:
    """A process that makes clips one after another, and says what it has handed to the recorder."""

    def __init__(self, nursery: Nursery, process: int, said: Path) -> None:
        self.nursery, self.process = nursery, process
        self.words = said.open()

    def wait(self) -> None:
        """Until the process has ended and is nobody's any more."""
        self.nursery.order("wait", str(self.process))
        self.words.close()

    def kill(self, delay: float) -> tuple[str, int]:
        """Kills the process `delay` seconds after its first chunk; the folder and the frames that it last named."""
        said = self.words.readline()
        time.sleep(delay)
        os.kill(self.process, signal.SIGKILL)
        said += self.words.read()
        self.wait()
        name, frames = said[: said.rindex("\n")].splitlines()[-1].split()
        return name, int(frames)


class Nursery:
    """A process that has everything imported and forks the recording ones: a start costs no second import."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", NURSERY], cwd=ROOT, **pipes)  # type: ignore[call-overload]

    def order(self, *words: str) -> str:
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def start(self, root: Path, chunks: int, pause: float, end: str) -> Recording:
        self.count += 1
        said = self.folder / f"said-{self.count}"
        os.mkfifo(said)
        process = int(self.order("start", str(root), str(said), str(chunks), str(pause), end))
        return Recording(self, process, said)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.process.communicate()
    assert made.process.returncode == 0


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


def kill_and_check(nursery: Nursery, tmp_path: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    for first in range(0, kills, 3):
        roots = [tmp_path / str(number) for number in range(first, min(first + 3, kills))]
        processes = [nursery.start(root, 12, 0.04, "goes on") for root in roots]
        last_words = [process.kill(moments.uniform(0, 0.6)) for process in processes]
        for root, (name, accepted) in zip(roots, last_words, strict=True):
            check_what_is_left(root, name, accepted)
            shutil.rmtree(root)


def test_every_recording_survives_a_kill(nursery: Nursery, tmp_path: Path) -> None:
    kill_and_check(nursery, tmp_path, kills=15, seed=0)


@pytest.mark.slow
def test_every_recording_survives_fifty_kills(nursery: Nursery, tmp_path: Path) -> None:
    kill_and_check(nursery, tmp_path, kills=50, seed=1)


def interrupted(nursery: Nursery, root: Path, chunks: int) -> Path:
    """A `.partial` folder as a process that died leaves it."""
    nursery.start(root, chunks, 0.0, "dies").wait()
    return next(root.glob("*.partial"))


def test_recover_is_a_command(nursery: Nursery, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partial = interrupted(nursery, tmp_path, 10)
    assert cli.main(["recover", str(partial)]) == 0
    clip = partial.with_name(partial.name.removesuffix(".partial"))
    assert str(clip) in capsys.readouterr().out
    assert not partial.exists()
    assert read_clip(clip).metadata.ending.reason == "interrupted"
    assert read_clip(clip).metadata.ending.clean is False
    assert cli.main(["recover", str(partial)]) == 2
    assert "is not an interrupted recording" in capsys.readouterr().err


def test_any_cut_of_journal_and_video_recovers(nursery: Nursery, tmp_path: Path) -> None:
    partial = interrupted(nursery, tmp_path / "original", 10)
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


def test_an_interrupted_recovery_goes_on(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = interrupted(nursery, tmp_path, 8)

    def fail(*_: object) -> None:
        raise ScopeError("killed here")

    recovery = "scope_play.recording.recover"
    for step in (f"{recovery}.write_columns", f"{recovery}.write_metadata", "pathlib.Path.rename"):
        with monkeypatch.context() as patch:
            patch.setattr(step, fail)
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


def test_what_is_no_recording_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    empty = tmp_path / "x.partial"
    empty.mkdir()
    with pytest.raises(ScopeError, match=r"actions\.journal cannot be read"):
        recover(empty)
    (empty / JOURNAL).write_bytes(b'{"schema": 99}\n')
    with pytest.raises(ScopeError, match="nothing in it to recover"):
        recover(empty)
    taken = interrupted(nursery, tmp_path / "taken", 6)
    shutil.copytree(record(tmp_path / "other", 1), taken.with_name(taken.name.removesuffix(".partial")))
    with pytest.raises(ScopeError, match="already exists"):
        recover(taken)
