"""What players and their machines do at the wrong moment."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pygame
import pytest

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.play.engine.protocol import Phase
from scope_play.play.menus.menu import Nav
from scope_play.play.menus.screen import Screen
from tests.helpers.bad_disk import full_after
from tests.helpers.fake_world import FakeWorld
from tests.helpers.play_driver import Driver


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Driver]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Driver()
    yield made
    made.app.close()


def press(driver: Driver, pad: VirtualPad, button: str) -> None:
    for pressed in (True, False):
        pad.set_button(button, pressed)
        driver.app.step()


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 10), (60, 400), (100, 40), (200, 100), (319, 179)])
def test_no_window_is_too_small_to_draw(driver: Driver, size: tuple[int, int]) -> None:
    app = driver.app

    def draw() -> None:
        pygame.display.set_mode(size, pygame.RESIZABLE)
        for message in ("", "word " * 50):
            app.state.say(message, app.clock(), alert=True)
            app.step()
        pygame.display.set_mode((640, 360), pygame.RESIZABLE)

    draw()
    driver.play(2)
    draw()
    driver.key(pygame.K_ESCAPE)
    draw()
    for item in ("settings", "controls", "prompt", "rewind"):
        driver.choose(item)
        draw()
        driver.key(pygame.K_ESCAPE)
    driver.choose("leave")
    draw()


def test_a_storm_of_plugs_leaves_nothing_held_and_nothing_plugged(driver: Driver) -> None:
    chance, pads = random.Random(2), []
    driver.play(2)
    for number in range(60):
        if pads and chance.random() < 0.5:
            pads.pop(chance.randrange(len(pads))).detach()
        else:
            pads.append(VirtualPad(f"Pad {number}"))
        if pads and chance.random() < 0.5:
            pads[-1].set_button(chance.choice(("a", "b", "x", "start", "back")), True)
            pads[-1].set_axis("left_x", 1.0)
        if chance.random() < 0.7:
            driver.turns(1)
    for pad in pads:
        pad.detach()
    driver.turns()
    assert [device.backend for device in driver.app.devices.devices] == ["keyboard"]
    if driver.screen is not Screen.PLAY:
        driver.app.state.resume()
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
    assert not driver.app.playback.steps[-1].rows[-1].any()
    with VirtualPad() as pad:
        driver.turns()
        pad.set_axis("left_y", -1.0)
        so_far = driver.app.playback.chunk
        driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
        assert driver.app.playback.steps[-1].rows[-1, 7] < -0.9


def test_a_button_held_while_the_focus_goes_is_let_go_and_counts_only_when_pressed_anew(driver: Driver) -> None:
    driver.play(3)
    with VirtualPad() as pad:
        driver.turns()
        pad.set_button("a", True)
        driver.until(lambda: bool(driver.app.playback.steps) and driver.app.playback.steps[-1].rows[-1, 2] == 1)
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
        driver.app.step()
        assert driver.screen is Screen.PAUSE
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSGAINED))
        driver.choose("resume")
        so_far = driver.app.playback.chunk
        driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
        assert not driver.app.playback.steps[-1].rows.any()
        pad.set_button("a", False)
        driver.turns()
        pad.set_button("a", True)
        driver.until(lambda: driver.app.playback.steps[-1].rows[-1, 2] == 1)


def test_unplugging_while_the_world_goes_back_ends_in_the_pause_menu(driver: Driver) -> None:
    app = driver.app
    driver.play(8)
    pad = VirtualPad()
    driver.turns()
    press(driver, pad, "back")
    assert driver.screen is Screen.REWIND
    app.state.chosen_chunk = 2
    app.state.navigate(Nav.OK, app.clock())
    pad.detach()
    driver.until(lambda: driver.screen is Screen.PAUSE)
    assert "unplugged" in app.state.message.text
    assert app.playback.chunk == 2
    assert not app.playback.playing
    driver.choose("resume")
    driver.until(lambda: app.playback.chunk >= 3)


def test_unplugging_on_the_rewind_screen_is_told_there(driver: Driver) -> None:
    driver.play(4)
    pad = VirtualPad()
    driver.turns()
    press(driver, pad, "back")
    driver.app.state.message = type(driver.app.state.message)()
    driver.app.state.changed = True
    driver.turns()
    before = driver.pixels()
    pad.detach()
    driver.turns()
    assert driver.screen is Screen.REWIND
    assert "unplugged" in driver.app.state.message.text
    upper = len(before) // 4
    assert driver.pixels()[:upper] != before[:upper]
    driver.key(pygame.K_ESCAPE)
    assert driver.screen is Screen.PAUSE


def test_unplugging_while_a_game_is_opened_ends_in_the_pause_menu(driver: Driver) -> None:
    driver.play(2)
    pad = VirtualPad()
    driver.turns()
    press(driver, pad, "start")
    driver.app.state.navigate(Nav.DOWN, 0.0)
    driver.app.state.navigate(Nav.DOWN, 0.0)
    assert driver.focus == "restart"
    driver.app.state.navigate(Nav.OK, driver.app.clock())
    pad.detach()
    driver.until(lambda: driver.app.playback.opened is not None and driver.app.playback.chunk == 0)
    driver.turns()
    assert driver.screen is Screen.PAUSE


def test_every_button_during_loading_waits_for_the_model(driver: Driver) -> None:
    with VirtualPad() as pad:
        for button in ("start", "back", "b", "y", "a"):
            press(driver, pad, button)
        driver.until(lambda: driver.screen is Screen.PLAY and driver.app.playback.chunk >= 1)


def test_a_file_dropped_in_the_game_is_answered(driver: Driver, tmp_path: Path) -> None:
    driver.play(1)
    pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(tmp_path)))
    driver.turns()
    assert "start screen" in driver.app.state.message.text
    assert driver.screen is Screen.PLAY


def test_a_disk_that_fills_up_is_told_with_the_mend_and_play_goes_on(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    full_after(64_000, disk, monkeypatch)
    driver.app.state.record_dir = disk
    driver.play(1)
    driver.key(pygame.K_F9)
    driver.until(lambda: driver.app.playback.recording is None)
    assert "scope-play recover" in driver.app.state.message.text
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("scope-play: disk full: No space left on device; free some space and run")
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
    assert driver.screen is Screen.PLAY


QUIT_WHILE_LOADING = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from functools import partial
from scope_play.play import app
from scope_play.play.engine.local import LocalEngine
from scope_play.play.settings import Settings
app.PATIENCE = 0.1
never = threading.Event()
engine = partial(LocalEngine, open_world=lambda request: never.wait())
game = app.App(app.Options(seconds=0.0), Settings(), make_engine=engine)
code = game.run()
raise SystemExit(f"{code}: the program went on although a thread cannot be stopped")
"""


def test_quitting_while_a_model_loads_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    helpers = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", QUIT_WHILE_LOADING, helpers], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_window_is_gone_before_the_engine_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Driver({"nano": FakeWorld(seconds=0.05)})
    made.play(1)
    order: list[str] = []
    monkeypatch.setattr(made.app.window, "close", lambda: order.append("window"))
    end = made.app.engine.close
    monkeypatch.setattr(made.app.engine, "close", lambda seconds: order.append("engine") or end(seconds))
    made.app.close()
    assert order == ["window", "engine"]
    assert made.app.engine.status.phase is Phase.STOPPED
