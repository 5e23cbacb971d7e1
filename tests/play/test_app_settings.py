"""Settings in the whole app: kept, refused, and what then is in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pygame
import pytest

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.errors import ScopeError
from scope_play.play.menus.screen import Screen
from scope_play.play.settings import Settings, load, save
from tests.helpers.play_driver import Driver


def test_settings_are_kept_and_typos_named(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.toml"
    assert load(path) == Settings()
    changed = replace(Settings(), mode="responsive", seed=7, record_dir='a "quoted" folder\\x', fullscreen=True)
    save(path, changed)
    assert load(path) == changed
    for text, words in {
        "fulscreen = true": r"unknown key 'fulscreen'; did you mean 'fullscreen'",
        "seed = 1.5": "seed is 1.5; write a whole number",
        'mode = "exakt"': "mode is 'exakt'; choose one of exact, responsive",
        "seed = ": "not valid TOML",
        'window_size = "huge"': "'huge' is not WIDTHxHEIGHT",
    }.items():
        path.write_text(text)
        with pytest.raises(ScopeError, match=words) as error:
            load(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_setting_changed_on_screen_is_saved(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start(settings_path=tmp_path / "settings.toml")
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("settings")
    driver.choose("mode")
    driver.turns()
    assert load(tmp_path / "settings.toml").mode == "responsive"
    driver.choose("gamepad")
    driver.choose("back")
    assert driver.screen is Screen.START


def test_pads_that_cannot_be_read_so_are_refused_and_not_stored(
    start: Callable[..., Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ScopeError("the inputs library cannot start here: use --gamepad sdl.")

    monkeypatch.setattr("scope_play.play.input.devices.InputsPads", refuse)
    path = tmp_path / "settings.toml"
    driver = start(settings_path=path)
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("settings")
    driver.choose("gamepad")
    assert "cannot start here" in driver.app.state.message.text
    assert driver.app.state.settings.gamepad == "sdl"
    driver.choose("mode")
    driver.turns()
    assert (load(path).gamepad, load(path).mode) == ("sdl", "responsive")


def test_a_start_with_pads_that_cannot_be_read_so_says_it_and_goes_on(
    start: Callable[..., Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scope_play.play.input.inputs_library.sys.platform", "darwin")
    driver = start(settings=Settings(window_size="640x360", gamepad="inputs"))
    assert "SDL reads the pads" in capsys.readouterr().err
    assert driver.app.state.settings.gamepad == "sdl"
    with VirtualPad("Pad"):
        driver.turns()
        assert driver.app.devices.active.name == "Pad"


def test_a_display_that_refuses_fullscreen_keeps_the_window_and_the_setting(
    start: Callable[..., Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mode = pygame.display.set_mode

    def refuse(size: tuple[int, int], flags: int = 0) -> pygame.Surface:
        if flags & pygame.FULLSCREEN:
            raise pygame.error("no such mode")
        return set_mode(size, flags)

    monkeypatch.setattr(pygame.display, "set_mode", refuse)
    path = tmp_path / "settings.toml"
    driver = start(settings_path=path)
    driver.key(pygame.K_F11)
    driver.key(pygame.K_F1)
    assert (load(path).fullscreen, load(path).show_stats) == (False, False)
    driver.app.close()
    again = start(settings=Settings(fullscreen=True)).app
    assert not again.window.fullscreen
    assert "refuses fullscreen" in again.state.message.text
