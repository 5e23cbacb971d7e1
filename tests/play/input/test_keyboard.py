"""Keyboard and mouse as a pad."""

from __future__ import annotations

import math

import pygame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.bindings import ControllerMap, parse_map
from scope_play.play.input.bindings_text import legend
from scope_play.play.input.devices import Devices, NoPads
from scope_play.play.input.events import ButtonEvent, LookEvent, ReleaseEvent, StickEvent
from scope_play.play.input.keyboard import (
    DEFAULT_KEY_BINDINGS,
    DIRECTIONS,
    KEY_ACTIONS,
    KeyboardMouse,
    KeyProfile,
    caps_of_layout,
    control_names,
    reserved_names,
)


def key(code, pressed=True):
    return pygame.event.Event(pygame.KEYDOWN if pressed else pygame.KEYUP, key=code)


def mouse(button, pressed=True):
    return pygame.event.Event(pygame.MOUSEBUTTONDOWN if pressed else pygame.MOUSEBUTTONUP, button=button)


def motion(dx, dy):
    return pygame.event.Event(pygame.MOUSEMOTION, rel=(dx, dy))


def after(*events, profile=None):
    keyboard = KeyboardMouse(profile or KeyProfile())
    for event in events:
        keyboard.feed(event, 0.0)
    return keyboard.state


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (key(pygame.K_SPACE), "south"),
        (key(pygame.K_f), "right_thumb"),
        (key(pygame.K_r), "west"),
        (key(pygame.K_q), "north"),
        (mouse(1), "right_trigger"),
        (mouse(3), "left_trigger"),
        (mouse(2), "right_thumb"),
        (key(pygame.K_ESCAPE), "start"),
        (key(pygame.K_RETURN), "a"),
        (key(pygame.K_BACKSPACE), "back"),
        (key(pygame.K_UP), "dpad_up"),
    ],
)
def test_the_usual_keys(event, field):
    assert getattr(after(event), field)
    assert after(key(pygame.K_z)).buttons == (False,) * 6


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ("w", (0.0, -1.0)),
        ("s", (0.0, 1.0)),
        ("a", (-1.0, 0.0)),
        ("d", (1.0, 0.0)),
        ("ws", (0.0, 0.0)),
        ("wd", (math.sqrt(0.5), -math.sqrt(0.5))),
        ("wasd", (0.0, 0.0)),
    ],
)
def test_wasd_is_the_left_stick_in_the_unit_disc(keys, left):
    assert after(*(key(ord(letter)) for letter in keys)).left == pytest.approx(left)


def test_arrows_look_at_the_look_speed_and_triggers_show_full():
    state = after(key(pygame.K_RIGHT), mouse(1), profile=KeyProfile(look_speed=0.4))
    assert state.right == (0.4, 0.0)
    assert state.triggers == (0.0, 1.0)
    assert state.connected


def test_releasing_one_of_two_keys_of_an_action_keeps_it():
    keyboard = KeyboardMouse(KeyProfile())
    keyboard.feed(key(pygame.K_f), 0.0)
    assert keyboard.feed(mouse(2), 0.1) == []
    assert keyboard.feed(key(pygame.K_f, False), 0.2) == []
    assert keyboard.feed(mouse(2, False), 0.3) == [ButtonEvent(0.3, "right_thumb", False)]


def test_a_wheel_notch_is_a_tap_of_one_row():
    keyboard, timeline = KeyboardMouse(KeyProfile()), ActionSampler(0.0)
    for event in keyboard.feed(pygame.event.Event(pygame.MOUSEWHEEL, x=0, y=-1), 0.06):
        timeline.push(event)
    assert timeline.rows(0.2, 4)[:, 5].tolist() == [0, 1, 0, 0]


@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), max_size=200), st.floats(100.0, 400.0))
def test_the_turn_is_the_distance_the_mouse_went_however_many_events_it_took(steps, pixels):
    keyboard, timeline = KeyboardMouse(KeyProfile(mouse_pixels=pixels)), ActionSampler(0.0)
    for k, step in enumerate(steps):
        for event in keyboard.feed(motion(*step), 0.008 * (k + 1)):
            timeline.push(event)
    total = sum(timeline.rows(0.2 * (chunk + 1), 4)[:, 8:].sum(0) for chunk in range(10))
    assert total == pytest.approx([sum(dx for dx, _ in steps) / pixels, sum(dy for _, dy in steps) / pixels], abs=1e-4)


def test_mouse_down_looks_down_unless_inverted():
    assert KeyboardMouse(KeyProfile(mouse_pixels=10)).feed(motion(5, 20), 0.0) == [LookEvent(0.0, 0.5, 2.0)]
    inverted = KeyboardMouse(KeyProfile(mouse_pixels=10, mouse_invert_y=True))
    assert inverted.feed(motion(5, 20), 0.0) == [LookEvent(0.0, 0.5, -2.0)]


def test_keys_can_be_bound_anew():
    profile = parse_map('[keys.bindings]\njump = "lshift"\nstrafe_left = "q"\nswitch = "a"\n', "x").keys
    state = after(key(pygame.K_LSHIFT), key(pygame.K_q), profile=profile)
    assert state.south
    assert state.left == (-1.0, 0.0)
    assert not state.north


def test_defaults_are_complete_known_and_free_of_conflicts():
    assert tuple(DEFAULT_KEY_BINDINGS) == KEY_ACTIONS
    controls = [control for bound in DEFAULT_KEY_BINDINGS.values() for control in bound]
    assert len(set(controls)) == len(controls)
    assert set(controls) <= set(control_names())
    assert not set(controls) & set(reserved_names())
    assert set(reserved_names()) <= set(control_names())
    assert set(DIRECTIONS) <= set(KEY_ACTIONS)


def test_other_events_are_passed_over():
    keyboard = KeyboardMouse(KeyProfile())
    for event in (
        pygame.event.Event(pygame.QUIT),
        key(0x7FFFFFFF),
        mouse(19),
        pygame.event.Event(pygame.MOUSEWHEEL, x=1, y=0),
    ):
        assert keyboard.feed(event, 0.0) == []


# ---- in the devices


def test_the_keyboard_plays_without_a_pad_and_lets_go_when_the_focus_is_lost():
    devices = Devices(NoPads(), parse_map("", "x"))
    assert devices.read([key(pygame.K_w)], 0.1) == [StickEvent(0.1, "left", 0.0, -1.0)]
    assert devices.active.name == "keyboard and mouse"
    assert devices.release_all(0.2) == [ReleaseEvent(0.2)]
    assert devices.state.left == (0.0, 0.0)
    assert devices.read([key(pygame.K_w, False)], 0.3) == []
    assert [device.key for device in devices.devices] == ["keyboard"]
    devices.close()


def test_a_key_held_through_a_pause_moves_again_after_it():
    devices = Devices(NoPads(), parse_map("", "x"))
    devices.read([key(pygame.K_d)], 0.1)
    assert StickEvent(9.0, "left", 1.0, 0.0) in devices.resume(9.0)


# ---- other layouts: the key code is what the layout writes, the scancode the place


def placed(code, scancode, pressed=True):
    return pygame.event.Event(pygame.KEYDOWN if pressed else pygame.KEYUP, key=code, scancode=scancode)


@pytest.mark.parametrize(
    "written",
    ["wasd", "цфыв", "ςασδ", "'שדג", "صشسي", "zqsd", ",aoe"],
    ids=["us", "ru", "gr", "il", "ara", "azerty", "dvorak"],
)
def test_the_keys_of_wasd_move_in_every_layout_and_nothing_else(written):
    places = (pygame.KSCAN_W, pygame.KSCAN_A, pygame.KSCAN_S, pygame.KSCAN_D)
    pushes = ((0.0, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 0.0))
    for character, place, push in zip(written, places, pushes, strict=True):
        state = after(placed(ord(character), place))
        assert state.left == push
        assert not any(state.buttons)


def test_a_dead_key_counts_by_its_place_and_keys_that_write_nothing_by_what_they_do():
    profile = parse_map(
        '[keys.bindings]\njump = "leftbracket"\naim = "lctrl"\nfire = "a"\nstrafe_left = []\n', "x"
    ).keys
    assert after(placed(0, pygame.KSCAN_LEFTBRACKET), profile=profile).south
    assert after(placed(pygame.K_LCTRL, pygame.KSCAN_CAPSLOCK), profile=profile).left_trigger
    assert after(placed(pygame.K_ESCAPE, pygame.KSCAN_CAPSLOCK)).start
    assert after(placed(pygame.K_ESCAPE, pygame.KSCAN_A)).left == (0.0, 0.0)


def test_a_map_that_names_a_key_by_a_character_of_another_layout_still_means_it():
    profile = parse_map('[keys.bindings]\njump = "exclaim"\n', "x").keys
    assert after(placed(pygame.K_EXCLAIM, pygame.KSCAN_SLASH), profile=profile).south


def test_the_legend_shows_the_caps_of_the_layout(monkeypatch):
    written = dict(zip("цфжйq", (26, 22, 7, 20, 4), strict=True))

    class Russian:
        def __init__(self, places):
            self.places = places

        def __getitem__(self, code):
            return self.places[written.get(chr(code), 0)]

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    assert (caps_of_layout()["w"], caps_of_layout()["minus"]) == ("W", "-")
    pygame.display.quit()
    monkeypatch.setattr(pygame.key, "ScancodeWrapper", Russian)
    entries = {entry.what: entry.keys for entry in legend(ControllerMap())}
    assert entries["Move"] == "Ц Q Ф Ж"
    assert entries["Switch"] == "Й, wheel up, wheel down"
    assert entries["Reload"] == "R"
