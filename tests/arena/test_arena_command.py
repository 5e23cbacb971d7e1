"""`scope-play arena`, as a player starts it, on SDL's dummy driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scope_play.actions import read_actions
from scope_play.arena.world import ArenaWorld


def test_the_demo_plays_and_records_the_simulator(tmp_path: Path) -> None:
    ArenaWorld(96, 160).start()  # compiled code is on disk from here on, so that the seconds are spent playing
    environment = {
        **os.environ,
        "SDL_VIDEODRIVER": "dummy",
        "SDL_AUDIODRIVER": "dummy",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    command = [sys.executable, "-m", "scope_play.cli", "arena", "--demo", "--seconds", "8", "--size", "96x160"]
    done = subprocess.run(
        [*command, "--record", str(tmp_path / "clips")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    clips = list((tmp_path / "clips").iterdir())
    assert len(clips) == 1
    assert clips[0].suffix != ".partial"
    rows = read_actions(clips[0] / "actions_raw.parquet")
    assert len(rows) > 5
    assert abs(rows).max() > 0


def test_a_bad_size_is_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scope_play.cli", "arena", "--size", "big"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--size 'big'" in done.stderr
