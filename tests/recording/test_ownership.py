"""Who may touch a folder that is being recorded: nobody, from wherever they look at its writer."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from scope_play.errors import ScopeError
from scope_play.recording import ownership
from scope_play.recording.clip import read_clip
from scope_play.recording.journal import JOURNAL, read_journal
from scope_play.recording.ownership import Writer, lock_of
from scope_play.recording.recorder import Recorder
from scope_play.recording.recover import recover
from tests.helpers.fake_world import FakeWorld
from tests.helpers.recordings import header_of, random_rows

ROOT = Path(__file__).parents[2]
NOBODY = 2**22 + 1
"""A process number that Linux never gives."""

View = Callable[[pytest.MonkeyPatch], None]


def another_pid_namespace(patch: pytest.MonkeyPatch) -> None:
    def unknown(pid: int | None = None) -> psutil.Process:
        raise psutil.NoSuchProcess(pid or NOBODY)

    patch.setattr(Writer, "here", lambda: Writer(1, 0.0, "container", ownership._boot()))
    patch.setattr(psutil, "Process", unknown)


def a_stepped_clock(patch: pytest.MonkeyPatch) -> None:
    real = psutil.Process.create_time
    patch.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600.0)


def a_container_that_hides_its_kernel(patch: pytest.MonkeyPatch) -> None:
    another_pid_namespace(patch)
    patch.setattr(ownership, "_boot", lambda: "")


VIEWS: list[View] = [another_pid_namespace, a_stepped_clock, a_container_that_hides_its_kernel]


class Live:
    """A recording in progress, chunk by chunk."""

    def __init__(self, root: Path) -> None:
        self.world = FakeWorld()
        self.session, self.rng = self.world.start(None, "a yard", 3), np.random.default_rng(5)
        self.recorder = Recorder(root, header_of(self.world), self.session.first_frame)
        self.chunks = 0

    def step(self) -> None:
        rows = random_rows(self.rng)
        self.recorder.add_chunk(self.session.step(rows).frames, rows, 0.0, 0.0, 0)
        self.chunks += 1


def test_nothing_is_lost_to_a_recover_beside_the_writer(tmp_path: Path) -> None:
    live, moments = Live(tmp_path), random.Random(3)
    refused = 0
    for _ in range(30):
        for _ in range(moments.randint(0, 2)):
            live.step()
        with pytest.MonkeyPatch.context() as patch:
            moments.choice(VIEWS)(patch)
            with pytest.raises(ScopeError, match=r"still being recorded \(process \d+ on \S"):
                recover(live.recorder.path, tmp_path / "out" if moments.random() < 0.3 else None)
        refused += 1
    assert refused == 30
    clip = live.recorder.close("quit")
    assert clip is not None
    assert read_clip(clip).metadata.frames == live.chunks * 4 + 1
    assert [path.name for path in tmp_path.iterdir()] == [clip.name]  # no lock, no half of another clip


def test_a_process_of_its_own_is_refused_too(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.step()
    other = subprocess.run(
        [sys.executable, "-m", "scope_play.cli", "recover", str(live.recorder.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert other.returncode == 2
    assert "still being recorded" in other.stderr
    live.step()
    clip = live.recorder.close("quit")
    assert clip is not None
    assert read_clip(clip).metadata.frames == 9


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a process that died leaves it."""
    root = tmp_path_factory.mktemp("left")
    dies = "import sys; from pathlib import Path; from tests.helpers.recordings import record_clips as record;"
    dies += "record(Path(sys.argv[1]), Path(sys.argv[1], 'said'), 6, 0.0, 'dies')"
    assert subprocess.run([sys.executable, "-c", dies, str(root)], cwd=ROOT).returncode == 9
    return next(root.glob("*.partial"))


@pytest.fixture
def partial(left: Path, tmp_path: Path) -> Path:
    """A copy of it, with its lock, that nobody holds."""
    copy = tmp_path / "dead.partial"
    shutil.copytree(left, copy)
    Path(lock_of(copy).lock_file).touch()
    (tmp_path / "out").mkdir()
    return copy


def written_by(partial: Path, writer: object) -> None:
    head, *rest = (partial / JOURNAL).read_text().splitlines(keepends=True)
    (partial / JOURNAL).write_text(json.dumps({**json.loads(head), "writer": writer}) + "\n" + "".join(rest))


def test_a_dead_writer_leaves_a_folder_that_recovers(partial: Path) -> None:
    finished = recover(partial)
    assert finished.frames >= 17
    assert sorted(path.name for path in partial.parent.iterdir()) == ["dead", "out"]


def test_another_machine_may_read_but_not_mend(partial: Path, tmp_path: Path) -> None:
    written_by(partial, {"pid": NOBODY, "started": 0.0, "host": "the-other-desk", "boot": "another"})
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    with pytest.raises(ScopeError, match=r"recorded on the-other-desk.*--out DIR"):
        recover(partial)
    finished = recover(partial, tmp_path / "out")
    assert read_clip(finished.path).metadata.frames >= 17
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


def test_the_same_machine_after_it_was_started_again(partial: Path) -> None:
    written_by(partial, {"pid": 1, "started": 0.0, "host": Writer.here().host, "boot": "the one before"})
    assert recover(partial).frames >= 17


@pytest.mark.parametrize("error", [NotImplementedError("no locks here"), PermissionError(13, "Permission denied")])
def test_where_nothing_can_be_locked(
    partial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", raising(error))
    with pytest.raises(ScopeError, match=r"cannot be locked .*--out DIR"):
        recover(partial)
    assert recover(partial, tmp_path / "out").frames >= 17


@pytest.mark.parametrize("error", [NotImplementedError("no locks here"), OSError(37, "No locks available")])
def test_a_recording_goes_on_where_the_file_system_knows_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", raising(error))
    live = Live(tmp_path)
    live.step()
    assert live.recorder.close("quit") is not None


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_journal_of_version_0_1_names_its_process_alone(partial: Path) -> None:
    here = psutil.Process()
    began = here.create_time()
    for pid, started, lives in [(here.pid, began, True), (here.pid, began - 1.0, True), (here.pid, began - 3600, False),
                                (NOBODY, began, False)]:  # fmt: skip
        written_by(partial, [pid, started])
        assert read_journal(partial / JOURNAL).writer == Writer(pid, started)
        assert read_journal(partial / JOURNAL).writer.seems_alive() is lives
    written_by(partial, [here.pid, began])
    with pytest.raises(ScopeError, match="still being recorded"):
        recover(partial)
    written_by(partial, [NOBODY, began])
    assert recover(partial).frames >= 17
