"""Ctrl-C and SIGTERM, sent to the real command: whatever it is doing ends as the player would have ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scope_play.actions import write_actions
from scope_play.recording.clip import read_clip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="other signals there")
BOTH = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])

SAY_WHEN = """
import sys
from scope_play import cli
{patch}
sys.exit(cli.main(sys.argv[1:]))
"""
LOADING = """
import time
import scope_play.play.engine.local as local
def forever(request):
    print("loading", flush=True)
    time.sleep(600)
local.open_world = forever
from functools import partial
local.LocalEngine.__init__.__kwdefaults__["open_world"] = forever
"""
PLAYING = """
from scope_play.play.playback import Playback
presented, shown = Playback.presented, []
def told(self, *rest):
    shown.append(1)
    if len(shown) == 12:
        print("playing", flush=True)
    return presented(self, *rest)
Playback.presented = told
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "HOME": str(tmp_path)}


@pytest.fixture
def command(environment: dict[str, str]) -> Iterator[object]:
    running: list[subprocess.Popen[str]] = []

    def start(patch: str, *words: object) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", SAY_WHEN.format(patch=patch), *map(str, words)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@BOTH
def test_while_a_model_is_loading(command, number: int, code: int) -> None:  # type: ignore[no-untyped-def]
    process = command(LOADING, "play", "--model", "nano-96x160")
    assert process.stdout.readline() == "loading\n"
    process.send_signal(number)
    assert process.wait(60) == code
    assert "Traceback" not in process.stderr.read()


@BOTH
def test_while_a_game_is_recorded(command, tmp_path: Path, number: int, code: int) -> None:  # type: ignore[no-untyped-def]
    process = command(PLAYING, "play", "--demo", "--model", "nano-96x160", "--record", tmp_path / "clips")
    assert process.stdout.readline() == "playing\n"
    process.send_signal(number)
    assert process.wait(60) == code
    assert "Traceback" not in process.stderr.read()
    (path,) = (tmp_path / "clips").iterdir()
    clip = read_clip(path)
    assert clip.metadata.ending.clean
    assert clip.metadata.frames >= 9


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_a_file_is_played_without_a_window(command, tmp_path: Path, number: int, code: int) -> None:  # type: ignore[no-untyped-def]
    write_actions(tmp_path / "long.parquet", np.zeros((20_000, 10), np.float32))
    patch = """
from scope_play.recording.recorder import Recorder
add, added = Recorder.add_chunk, []
def told(self, *rest):
    added.append(1)
    if len(added) == 3:
        print("recording", flush=True)
    return add(self, *rest)
Recorder.add_chunk = told
"""
    words = ["--headless", "--actions", tmp_path / "long.parquet", "--out", tmp_path / "clips"]
    process = command(patch, "play", "--model", "nano-96x160", *words)
    assert process.stdout.readline() == "recording\n"
    process.send_signal(number)
    assert process.wait(60) == code
    (path,) = (tmp_path / "clips").iterdir()
    assert read_clip(path).metadata.ending.reason == "stopped before its end"
