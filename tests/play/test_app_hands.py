"""Focus, sticks, keys and copies of a pad: what a hand means, in the whole app."""

from __future__ import annotations

from collections.abc import Callable

import pygame

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.play.input.events import StickEvent
from scope_play.play.menus.menu import Chosen, Nav
from scope_play.play.menus.menu_input import MenuInput
from scope_play.play.menus.screen import Screen
from tests.helpers.play_driver import Driver, rows, tap


def test_losing_the_focus_pauses_and_releases_everything(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.play()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_w, mod=0, unicode="w"))
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
    assert rows(driver)[-1, 7] == -1
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    driver.app.step()
    assert driver.screen is Screen.PAUSE
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSGAINED))
    driver.choose("resume")
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
    assert not rows(driver)[-1].any()


def test_a_click_and_the_loss_of_the_focus_in_one_batch_leave_nothing_held(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.play()
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(5, 5)))
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    driver.app.step()
    assert not any(driver.app.devices.state.buttons)
    assert driver.screen is Screen.PAUSE


def test_a_game_that_opens_while_the_player_looks_elsewhere_waits(start: Callable[..., Driver]) -> None:
    driver = start()
    app = driver.app
    driver.until(lambda: app.engine.status.spec is not None and app.state.own_picture is not None)
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    driver.app.step()
    app.state.choose(Chosen("play"), app.clock())
    driver.until(lambda: app.playback.opened is not None and driver.screen is not Screen.START)
    assert driver.screen is Screen.PAUSE


def test_a_stick_held_into_the_pause_menu_moves_nothing_there_until_it_was_at_rest(
    start: Callable[..., Driver],
) -> None:
    driver = start()
    with VirtualPad() as pad:
        driver.turns()
        driver.play()
        pad.set_axis("left_y", -1.0)
        driver.app.step()
        tap(driver, pad, "start")
        for trembling in (-0.9, -1.0, -0.95):
            pad.set_axis("left_y", trembling)
            driver.app.step()
            assert (driver.screen, driver.focus) == (Screen.PAUSE, "resume")
        for place, focus in ((0.0, "resume"), (1.0, "rewind")):
            pad.set_axis("left_y", place)
            driver.app.step()
            assert driver.focus == focus


def test_a_stick_held_while_the_focus_goes_and_comes_moves_nothing(start: Callable[..., Driver]) -> None:
    driver = start()
    with VirtualPad() as pad:
        driver.turns()
        driver.play()
        pad.set_axis("left_y", -1.0)
        driver.app.step()
        for change in (pygame.WINDOWFOCUSLOST, pygame.WINDOWFOCUSGAINED):
            pygame.event.post(pygame.event.Event(change))
            pad.set_axis("left_y", -0.9 if change == pygame.WINDOWFOCUSLOST else -1.0)
            driver.turns()
            assert (driver.screen, driver.focus) == (Screen.PAUSE, "resume")


def test_a_stick_that_trembles_where_it_begins_to_count_counts_once() -> None:
    menu = MenuInput()
    places = (0.0, 0.6, 0.5, 0.6, 0.5, 0.6, 0.0, 0.6)
    steps = [menu.feed(StickEvent(0.0, "left", 0.0, y), 0.0) for y in places]
    assert [step for step in steps if step] == [Nav.DOWN, Nav.DOWN]


def test_a_key_let_go_while_a_line_is_written_does_not_run_on_after_it(start: Callable[..., Driver]) -> None:
    driver = start()
    app = driver.app
    driver.until(lambda: app.state.own_picture is not None)
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_DOWN, mod=0, unicode=""))
    driver.app.step()
    app.state.choose(Chosen("seed"), app.clock())
    driver.app.step()
    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_DOWN, mod=0))
    driver.app.step()
    driver.key(pygame.K_ESCAPE)
    focus, later = driver.focus, app.clock() + 10
    app.clock = lambda: later
    driver.turns()
    assert driver.focus == focus


def test_a_copy_of_the_pad_does_not_double_a_press_in_menu_or_game(start: Callable[..., Driver]) -> None:
    driver = start()
    with VirtualPad("Pad") as pad, VirtualPad("Copy of it") as copy:
        driver.turns()
        driver.play()

        def both(button: str) -> None:
            for pressed in (True, False):
                for one in (pad, copy):
                    one.set_button(button, pressed)
                    driver.app.step()

        both("start")
        assert driver.screen is Screen.PAUSE
        both("dpad_down")
        assert driver.focus == "rewind"
