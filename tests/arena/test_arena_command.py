"""`scope-play arena`, as a player starts it, on SDL's dummy driver."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scope_play.actions import read_actions
from scope_play.commands import arena as command
from scope_play.commands import replay as replay_command
from scope_play.play import app as play_app
from scope_play.play.settings import Settings, load, turned


def test_the_demo_plays_and_records_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the settings cannot be read, which is said, and left to be mended."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    faulty = tmp_path / "config/scope-play/settings.toml"
    faulty.parent.mkdir(parents=True)
    faulty.write_text("smoooth = true\n")

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
    assert "unknown key 'smoooth'" in capsys.readouterr().err
    assert faulty.read_text() == "smoooth = true\n"
    clips = list((tmp_path / "clips").iterdir())
    assert len(clips) == 1
    assert clips[0].suffix != ".partial"
    rows = read_actions(clips[0] / "actions_raw.parquet")
    assert len(rows) >= 30
    assert np.abs(rows).max() > 0
    replay = argparse.ArgumentParser()
    replay_command.configure(replay)
    assert replay_command.run(replay.parse_args([str(clips[0]), "--check"])) == 0


def test_what_the_player_changes_in_the_simulator_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def change(app: play_app.App) -> int:
        try:
            app.state.settings = turned(app.state.settings, "show_stats", 1)
            app.step()
        finally:
            app.close()
        return 0

    monkeypatch.setattr(play_app.App, "run", change)
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args(["--size", "96x160", "--window-size", "640x360"])) == 0
    kept = load(tmp_path / "config/scope-play/settings.toml")
    assert kept == replace(Settings(), show_stats=not Settings().show_stats)


def test_a_bad_size_is_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scope_play.cli", "arena", "--size", "big"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "size 'big'" in done.stderr
