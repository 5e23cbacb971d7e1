"""`scope-play arena`, as a player starts it, on SDL's dummy driver."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scope_play.actions import read_actions
from scope_play.commands import arena as command
from scope_play.commands import replay as replay_command
from scope_play.play import app as play_app


def test_the_demo_plays_and_records_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def play_a_while(app: play_app.App) -> int:
        try:
            while app.playback.chunk < 30:
                app.step()
                app.rest()
        finally:
            app.close()
        return 0

    monkeypatch.setattr(play_app.App, "run", play_a_while)
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = ["--demo", "--size", "96x160", "--record", str(tmp_path / "clips")]
    assert command.run(parser.parse_args(arguments)) == 0
    clips = list((tmp_path / "clips").iterdir())
    assert len(clips) == 1
    assert clips[0].suffix != ".partial"
    rows = read_actions(clips[0] / "actions_raw.parquet")
    assert len(rows) >= 30
    assert np.abs(rows).max() > 0
    replay = argparse.ArgumentParser()
    replay_command.configure(replay)
    assert replay_command.run(replay.parse_args([str(clips[0]), "--check"])) == 0


def test_a_bad_size_is_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scope_play.cli", "arena", "--size", "big"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "size 'big'" in done.stderr
