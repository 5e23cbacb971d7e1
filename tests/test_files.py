"""Paths as people and libraries write them, closed and narrow streams, users without a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scope_play.actions import read_actions, write_actions
from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.files import for_people, place, require_free, user_folder
from scope_play.recording.clip import read_clip
from scope_play.recording.lerobot import export
from scope_play.recording.recover import recover
from scope_play.recording.replay import clip_script, first_difference, play, save
from scope_play.recording.video import count_frames
from tests.helpers.fake_world import FakeWorld
from tests.helpers.recordings import record

AWKWARD = ["session-08:15", "http:", "file:a b", "~", "ünï—☃", "-out", "a%20b", "c#d", "x" * 120]


@pytest.mark.parametrize("name", AWKWARD)
def test_recordings_live_in_folders_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded, recovered, replayed, written anew and exported, all by a relative path."""
    monkeypatch.chdir(tmp_path)
    root = Path(f"./{name}") if name == "~" else Path(name)
    if name == "~":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    clip = record(root, 3)
    assert read_clip(clip).rows.shape == (13, 10)
    script = clip_script(read_clip(clip))
    assert first_difference(script, play(script, FakeWorld())) is None
    out = place(root) / "re:1.mp4"
    assert len(list(save(play(script, FakeWorld()), out, 20))) == 13
    assert count_frames(out) == 13
    export([clip], place(root) / "data:set", task="play")
    write_actions(place(root) / "b:c.parquet", np.zeros((3, 10), np.float32))
    assert read_actions(place(root) / "b:c.parquet").shape == (3, 10)


def test_an_interrupted_recording_below_a_colon_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScopeError, match="is not an interrupted recording"):
        recover(Path("session-08:15/none"))


def test_home_is_filled_in_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/my clips") == tmp_path / "my clips"
    assert for_people(tmp_path / "my clips") == os.path.join("~", "my clips")
    assert place("a/~/b") == Path.cwd() / "a" / "~" / "b"
    assert for_people(Path(os.fsdecode(b"/x/\xff\xfe"))).isprintable()


@pytest.mark.parametrize("command", [["replay", "~nosuchuser/x"], ["export", "~nosuchuser/x", "--out", "y"]])
def test_a_user_who_is_not_there_is_one_sentence(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(command)
    assert "is no path here" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["config", "data", "cache", "videos", "pictures"])
def test_a_user_without_a_home_has_the_temporary_folder(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the user id has no entry
    assert user_folder(kind).is_absolute()  # type: ignore[arg-type]
    assert for_people(Path("/a/b")) == "/a/b"


def test_what_is_there_is_named(tmp_path: Path) -> None:
    require_free(tmp_path / "new", mend="choose another")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ScopeError, match="link already exists; choose another"):
        require_free(tmp_path / "new", tmp_path / "link", mend="choose another")


@pytest.mark.parametrize("close", ["2>&-", ">&- 2>&-", "| true"])
def test_closed_streams_do_not_end_a_command(close: str) -> None:
    command = f"{sys.executable} -m scope_play.cli replay /no/such/☃ {close}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    if close == "| true":
        assert "\\u2603" in done.stderr
