"""The window against a server: the same screens, the same exact recordings, and plain words when the line is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scope_play.bench.line import Line
from scope_play.cli import main
from scope_play.play.engine.remote import connected
from scope_play.play.menus.screen import Screen
from scope_play.recording.clip import find_clips, read_clip
from scope_play.recording.replay import clip_script, first_difference, play
from tests.helpers.fake_world import FakeWorld
from tests.helpers.play_driver import Driver
from tests.helpers.serving import TOKEN, serving

Start = Callable[..., Driver]


def test_a_game_elsewhere_recorded_here(start: Start, tmp_path: Path) -> None:
    with serving(tmp_path / "there") as served, Line(served.port) as line:
        url = f"http://127.0.0.1:{line.port}/#{TOKEN}"
        driver = start(make_engine=connected(url), record=tmp_path / "here", models=("elsewhere",), model="elsewhere")
        driver.play(3)
        assert driver.app.playback.recording is not None
        line.cut()
        driver.until(lambda: driver.screen is Screen.PAUSE)
        driver.until(lambda: "stands again" in driver.app.state.message.text)
        driver.choose("resume")
        driver.until(lambda: driver.app.playback.chunk >= 6)
        assert driver.app.playback.split.link > 0
        driver.app.state.open_rewind()
        driver.app.state.chosen_chunk = 2
        driver.app.state.playback.go_back(2)
        driver.app.state._going_back = True
        driver.until(lambda: driver.screen is Screen.PLAY and driver.app.playback.chunk >= 4)
        driver.app.close()
    (clip,) = find_clips([tmp_path / "here"])
    script = clip_script(read_clip(clip))
    assert len(script.beats) >= 8
    assert first_difference(script, play(script, FakeWorld())) is None


def test_a_full_house_and_a_server_that_ends_are_said(start: Start, tmp_path: Path) -> None:
    with serving(tmp_path, seats=1) as served:
        first = start(make_engine=connected(served.url))
        first.play(1)
        second = start(make_engine=connected(served.url))
        second.until(lambda: "your place is 1" in second.app.engine.status.text)
    first.until(lambda: first.screen is not Screen.PLAY)
    assert first.app.state.message.alert
    first.app.close()


def test_an_address_that_is_none_is_a_sentence(capsys: object) -> None:
    assert main(["play", "--connect", "nowhere"]) == 2
