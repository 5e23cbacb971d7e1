"""SDL controllers and the devices, driven by virtual pads that take the same road as real ones."""

from __future__ import annotations

import os

import pygame
import pytest
from pygame._sdl2 import controller

from scope_play.bench.virtual_pad import AXES, BUTTONS, TRIGGERS, VirtualPad
from scope_play.errors import ScopeError
from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.bindings import ControllerMap, parse_map
from scope_play.play.input.devices import BACKENDS, Devices, NoPads, Notice, open_pads
from scope_play.play.input.events import ButtonEvent, ReleaseEvent, StickEvent
from scope_play.play.input.sdl import SdlPads
from scope_play.play.input.translator import Plugged, RawButton, RawStick, RawTrigger, Unplugged, Unusable


@pytest.fixture(autouse=True)
def screen(monkeypatch):
    monkeypatch.setitem(os.environ, "SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    pygame.display.set_mode((64, 64))
    yield
    pygame.event.clear()
    controller.quit()
    pygame.joystick.quit()
    pygame.display.quit()


def raw(pads, t=0.0):
    return pads.read(pygame.event.get(), t)


def opened(pads):
    """Read away the plug events."""
    raw(pads)
    return pads


def test_plug_and_unplug_are_told_with_name_and_guid():
    pads = SdlPads()
    with VirtualPad("Pad One") as pad:
        (plugged,) = raw(pads, 1.0)
        assert isinstance(plugged, Plugged)
        assert (plugged.t, plugged.device.name, plugged.device.backend) == (1.0, "Pad One", "sdl")
        assert len(plugged.device.guid) == 32
        pad.detach()
        gone = raw(pads, 2.0)[-1]
        assert gone == Unplugged(2.0, plugged.device)
        with VirtualPad("Pad One"):
            assert [event.device.name for event in raw(pads)] == ["Pad One"]


def test_a_pad_plugged_in_before_anybody_listened_is_found_once():
    with VirtualPad("Early"):
        pygame.event.clear()
        pads = SdlPads()
        assert [type(event) for event in raw(pads)] == [Plugged]
        assert raw(pads) == []


def test_a_pad_without_a_mapping_is_named_in_one_sentence():
    pads = SdlPads()
    with VirtualPad("Odd Stick", mapped=False, vendor_id=0x1234, product_id=0x5678):
        (unusable,) = raw(pads)
        assert isinstance(unusable, Unusable)
        assert unusable.reason.startswith("Odd Stick is plugged in but SDL has no button mapping")
        assert "\n" not in unusable.reason


@pytest.mark.parametrize("button", BUTTONS)
def test_every_button_arrives_by_its_own_name(button):
    edges = (True,) if button == "guide" else (True, False)  # SDL holds the guide button back for a quarter second
    with VirtualPad() as pad:
        pads = opened(SdlPads())
        for pressed in edges:
            pad.set_button(button, pressed)
            (event,) = raw(pads, 0.5)
            assert isinstance(event, RawButton)
            assert (event.t, event.control, event.pressed) == (0.5, button, pressed)


def test_sticks_and_triggers_have_their_signs_and_ranges():
    with VirtualPad() as pad:
        pads = opened(SdlPads())
        for trigger in TRIGGERS:
            for value in (1.0, 0.5, 0.0):
                pad.set_axis(trigger, value)
                (event,) = raw(pads)
                assert isinstance(event, RawTrigger)
                assert event.control == trigger
                assert event.value == pytest.approx(value, abs=1e-3)
        for axis in set(AXES) - set(TRIGGERS):
            for value in (1.0, -1.0, 0.25, 0.0):
                pad.set_axis(axis, value)
                (event,) = raw(pads)
                assert isinstance(event, RawStick)
                assert event.control == axis.split("_")[0]
                assert (event.x if axis.endswith("x") else event.y) == pytest.approx(value, abs=1e-3)


def test_both_axes_of_a_report_come_as_one_position_and_reports_of_one_batch_stay_apart():
    with VirtualPad() as pad:
        pads = opened(SdlPads())
        batch = []
        for x, y in ((1.0, 0.0), (0.0, 1.0), (-1.0, -0.5)):
            pad.set_axis("left_x", x)
            pad.set_axis("left_y", y)
            batch += pygame.event.get()
        seen = [(round(event.x, 2), round(event.y, 2)) for event in pads.read(batch, 0.0)]
        assert seen[0] == (1.0, 0.0)
        assert (0.0, 1.0) in seen
        assert seen[-1] == (-1.0, -0.5)
        assert (0.0, 0.0) not in seen


def test_sample_tells_where_a_held_stick_stands():
    with VirtualPad() as pad:
        pads = opened(SdlPads())
        pad.set_axis("right_y", -1.0)
        raw(pads)
        (right,) = [event for event in pads.sample(3.0) if event.control == "right"]
        assert (right.t, right.x, right.y) == (3.0, 0.0, -1.0)


# ---- the devices


def devices_with_pads(text=""):
    return Devices(open_pads("sdl", now=0.0), parse_map(text, "test"))


def read(devices, t=0.0):
    return devices.read(pygame.event.get(), t)


def presses(items):
    return [item.button for item in items if isinstance(item, ButtonEvent) and item.pressed]


def test_a_pad_plays_from_plug_to_action_rows():
    devices, timeline = devices_with_pads(), ActionSampler(0.0)
    with VirtualPad() as pad:
        read(devices)
        for t, change in (
            (0.01, lambda: pad.set_axis("left_y", -1.0)),
            (0.06, lambda: pad.set_button("a", True)),
            (0.07, lambda: pad.set_button("a", False)),
            (0.11, lambda: pad.set_axis("right_trigger", 1.0)),
        ):
            change()
            for item in read(devices, t):
                timeline.push(item)
        rows = timeline.rows(0.2, 4)
        assert rows[:, 2].tolist() == [0, 1, 0, 0]
        assert rows[:, 0].tolist() == [0, 0, 1, 1]
        assert rows[:, 7].tolist() == [-1, -1, -1, -1]
        assert devices.state.row().tolist() == rows[-1].tolist()


def test_the_map_decides_what_a_button_does_but_menus_keep_theirs():
    devices = devices_with_pads('[pad.bindings]\njump = "x"\nreload = "a"\n')
    with VirtualPad() as pad:
        read(devices)
        pad.set_button("a", True)
        assert presses(read(devices)) == ["west", "a"]


def test_two_controls_of_one_action_are_one_press():
    devices = devices_with_pads('[pad.bindings]\njump = ["a", "left_shoulder"]\n')
    with VirtualPad() as pad:
        read(devices)
        seen = []
        for button, pressed in (("a", True), ("left_shoulder", True), ("a", False), ("left_shoulder", False)):
            pad.set_button(button, pressed)
            seen += [item.pressed for item in read(devices) if isinstance(item, ButtonEvent) and item.button == "south"]
        assert seen == [True, False]


def test_a_profile_belongs_to_its_pad_and_a_new_map_counts_at_once():
    devices = devices_with_pads('[profile."Left Handed"]\nswap_sticks = true\n')
    with VirtualPad("Left Handed") as pad:
        read(devices)
        pad.set_axis("right_x", 1.0)
        assert StickEvent(0.0, "left", 1.0, 0.0) in read(devices)
        assert set(devices.use(ControllerMap(), 1.0)) == {
            StickEvent(1.0, "left", 0.0, 0.0),
            StickEvent(1.0, "right", 1.0, 0.0),
        }


def test_unplugging_the_pad_in_use_lets_go_and_pauses_and_it_can_come_back():
    devices = devices_with_pads()
    with VirtualPad("Wireless") as pad:
        read(devices)
        pad.set_button("a", True)
        read(devices)
        assert devices.active.name == "Wireless"
        pad.detach()
        items = read(devices, 2.0)
        assert ReleaseEvent(2.0) in items
        (notice,) = [item for item in items if isinstance(item, Notice)]
        assert notice.pause
        assert notice.text.startswith("Wireless was unplugged")
        assert devices.active.backend == "keyboard"
        assert not any(devices.state.buttons)
    with VirtualPad("Wireless") as pad:
        assert [item.kind for item in read(devices)] == ["plugged"]
        pad.set_button("b", True)
        assert presses(read(devices)) == ["b"]
        assert devices.active.name == "Wireless"


def test_unplugging_a_pad_that_is_not_in_use_does_not_pause():
    devices = devices_with_pads()
    with VirtualPad("One") as one, VirtualPad("Two") as two:
        read(devices)
        one.set_button("a", True)
        read(devices)
        two.detach()
        (notice,) = [item for item in read(devices) if isinstance(item, Notice)]
        assert not notice.pause
        assert devices.state.south


def test_the_pad_used_last_plays_and_takes_over_cleanly():
    devices = devices_with_pads()
    with VirtualPad("One") as one, VirtualPad("Two") as two:
        read(devices)
        one.set_button("a", True)
        one.set_axis("left_y", -1.0)
        read(devices)
        assert devices.active.name == "One"
        two.set_axis("left_x", 0.3)  # lies on the table and drifts
        assert read(devices) == []
        one.set_axis("left_y", -0.9)  # held all the time, which is no new use
        read(devices)
        two.set_button("x", True)
        assert read(devices, 4.0) == []  # it may yet turn out to be a copy
        items = read(devices, 4.2)
        assert items[0] == ReleaseEvent(4.0)
        assert presses(items) == ["west"]
        assert any(isinstance(item, StickEvent) and item.stick == "left" and item.x > 0 for item in items)
        assert devices.active.name == "Two"
        one.set_axis("left_y", -1.0)
        assert read(devices) == []
        one.set_axis("left_y", 0.0)
        read(devices)
        one.set_axis("left_y", 0.8)
        read(devices, 5.0)
        assert read(devices, 5.2)[0] == ReleaseEvent(5.0)
        assert devices.active.name == "One"


def test_focus_lost_lets_go_and_resume_finds_the_stick_where_it_is_but_no_button():
    devices = devices_with_pads()
    with VirtualPad() as pad:
        read(devices)
        pad.set_button("a", True)
        pad.set_axis("left_x", 1.0)
        read(devices)
        assert devices.release_all(1.0) == [ReleaseEvent(1.0)]
        assert devices.state.left == (0.0, 0.0)
        assert StickEvent(2.0, "left", 1.0, 0.0) in devices.resume(2.0)
        assert not devices.state.south
        pad.set_button("a", False)
        assert read(devices) == []


def test_an_unusable_pad_is_a_notice():
    devices = devices_with_pads()
    with VirtualPad("Odd", mapped=False, vendor_id=0x1234, product_id=0x5678):
        (notice,) = read(devices)
        assert (notice.kind, notice.pause) == ("unusable", False)


def test_backends_by_name():
    assert isinstance(open_pads("keyboard", now=0.0), NoPads)
    for backend in BACKENDS:
        if backend != "inputs":
            open_pads(backend, now=0.0).close()
    with pytest.raises(ScopeError, match="--gamepad sdl2 is not known: choose from sdl"):
        open_pads("sdl2", now=0.0)


def test_a_wheel_notch_takes_over_from_a_pad_as_a_whole_tap():
    devices = devices_with_pads()
    with VirtualPad() as pad:
        read(devices)
        pad.set_button("x", True)
        read(devices)
        notch = pygame.event.Event(pygame.MOUSEWHEEL, x=0, y=1)
        assert devices.read([notch], 1.0) == [
            ReleaseEvent(1.0),
            StickEvent(1.0, "left", 0.0, 0.0),
            StickEvent(1.0, "right", 0.0, 0.0),
            ButtonEvent(1.0, "north", True),
            ButtonEvent(1.0, "north", False),
        ]
        assert devices.active.backend == "keyboard"


def test_a_plugged_pad_plays_unless_somebody_uses_the_keyboard_or_another_pad():
    devices = devices_with_pads()
    with VirtualPad("One") as one:
        read(devices)
        assert devices.active.name == "One"
        one.set_axis("left_x", 0.4)
        assert read(devices)[0].x > 0
        with VirtualPad("Two"):
            read(devices)
            assert devices.active.name == "One"
        one.detach()
        read(devices)
        assert devices.active.backend == "keyboard"
    devices.read([pygame.event.Event(pygame.KEYDOWN, key=pygame.K_w, mod=0, unicode="w")], 1.0)
    with VirtualPad("Three"):
        read(devices)
        assert devices.active.backend == "keyboard"
        assert devices.state.left == (0.0, -1.0)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("control", ["a", "start", "right_trigger", "left_y"])
def test_a_copy_of_a_pad_is_the_same_hand(first, control):
    devices = devices_with_pads()
    with VirtualPad("Pad") as pad, VirtualPad("Copy") as copy:
        read(devices)
        pads, items = (pad, copy) if first == 0 else (copy, pad), []
        for k, pushed in enumerate((1.0, 0.0) * 3):
            for late, one in enumerate(pads):
                if control in AXES:
                    one.set_axis(control, pushed)
                else:
                    one.set_button(control, bool(pushed))
                items += read(devices, 1.0 + 0.15 * k + 0.03 * late)
        assert not [item for item in items if isinstance(item, ReleaseEvent)]
        moved = [item.pressed for item in items if isinstance(item, ButtonEvent) and item.button != "south"]
        moved += [item.y > 0 for item in items if isinstance(item, StickEvent)]
        assert moved == [True, False] * 3
        assert devices.active.name == "Pad"


def test_a_stick_whose_copy_passes_the_middle_later_is_the_same_hand():
    devices = devices_with_pads()
    with VirtualPad("Pad") as pad, VirtualPad("Copy") as copy:
        read(devices)
        for t, place, shaped in ((1.0, 0.45, 0.4), (2.0, 0.5, 0.7), (3.0, 0.8, 0.8)):
            pad.set_axis("left_x", place)
            copy.set_axis("left_x", shaped)
            assert not [item for item in read(devices, t) + read(devices, t + 0.2) if isinstance(item, ReleaseEvent)]


def test_keys_that_a_pads_buttons_are_turned_into_are_the_same_hand():
    devices = devices_with_pads()
    with VirtualPad("Pad") as pad:
        read(devices)
        pad.set_button("a", True)
        assert presses(read(devices, 1.0)) == ["south", "a"]
        enter = pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RETURN, mod=0, unicode="", scancode=40)
        assert devices.read([enter], 1.03) == []
        pad.set_button("a", False)
        read(devices, 1.05)
        devices.read([pygame.event.Event(pygame.KEYUP, key=pygame.K_RETURN, mod=0, unicode="", scancode=40)], 1.08)
        assert presses(devices.read([enter], 2.0)) == ["a"]


def test_another_pads_tap_that_ended_before_it_takes_over_counts_as_a_whole():
    devices, sampler = devices_with_pads(), ActionSampler(0.0)
    with VirtualPad("One") as one, VirtualPad("Two") as two:
        read(devices)
        one.set_axis("left_y", -1.0)
        read(devices, 1.0)
        items = []
        for t, button, pressed in (
            (2.0, "a", True),
            (2.02, "x", True),
            (2.04, "x", False),
            (2.05, "a", False),
            (2.12, "a", False),
        ):
            two.set_button(button, pressed)
            items += read(devices, t)
        for item in items:
            sampler.push(item)
        assert sampler.rows(2.2, 4)[:, 2].sum() == 1
        assert devices.active.name == "Two"
        one.set_button("x", True)  # long after the other one did
        assert presses(read(devices, 3.0) + read(devices, 3.2)) == ["west"]
        assert devices.active.name == "One"


def test_a_trigger_held_while_the_focus_goes_counts_only_when_pulled_anew():
    devices = devices_with_pads()
    with VirtualPad() as pad:
        read(devices)
        pad.set_axis("right_trigger", 1.0)
        assert presses(read(devices)) == ["right_trigger"]
        devices.release_all(1.0)
        pad.set_axis("right_trigger", 0.9)
        assert presses(read(devices, 2.0)) == []
        pad.set_axis("right_trigger", 0.0)
        read(devices, 3.0)
        pad.set_axis("right_trigger", 0.9)
        assert presses(read(devices, 4.0)) == ["right_trigger"]
