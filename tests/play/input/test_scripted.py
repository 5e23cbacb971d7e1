"""The scripted pad: deterministic, as busy as a player, and in the same words as a real pad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.actions import BUTTONS
from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.devices import Devices, Notice, open_pads
from scope_play.play.input.scripted import ScriptedPad
from scope_play.play.input.translator import PAD_CONTROLS, Plugged, RawButton, RawStick, RawTrigger


def rows_of(seed, chunks, start=10.0):
    devices, timeline, rows = (
        Devices(open_pads("scripted", now=start, seed=seed), ControllerMap()),
        ActionSampler(start),
        [],
    )
    for chunk in range(1, chunks + 1):
        for tick in range(24):
            for item in devices.read([], start + 0.2 * (chunk - 1) + 0.2 * (tick + 1) / 24):
                if not isinstance(item, Notice):
                    timeline.push(item)
        rows.append(timeline.rows(start + 0.2 * chunk, 4))
    return np.concatenate(rows)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.floats(0.001, 3.0), min_size=1, max_size=20))
def test_events_depend_on_the_seed_and_not_on_when_they_are_read(seed, steps):
    end = sum(steps)
    once = ScriptedPad(5.0, seed).read([], 5.0 + end)
    pad, t, often = ScriptedPad(5.0, seed), 5.0, []
    for step in steps:
        t += step
        often += pad.read([], t)
    often += pad.read([], 5.0 + end)
    assert often == once


def test_other_seeds_play_otherwise():
    assert not np.array_equal(rows_of(1, 40), rows_of(2, 40))
    assert np.array_equal(rows_of(1, 40), rows_of(1, 40))


@pytest.mark.parametrize("seed", range(5))
def test_half_a_minute_uses_every_button_and_both_sticks(seed):
    rows = rows_of(seed, 150)
    pressed = (np.diff(rows[:, : len(BUTTONS)], axis=0) > 0).sum(0)
    assert (pressed >= 1).all(), dict(zip(BUTTONS, pressed, strict=True))
    forward, turn = rows[:, 7], rows[:, 8]
    assert forward.min() < -0.95
    assert turn.min() < -0.2
    assert turn.max() > 0.2
    assert (np.abs(rows[:, 6:]).max(1) == 0).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_look_stays_near_the_horizon(seed):
    pitch = np.cumsum(rows_of(seed, 300)[:, 9]) / 20
    assert np.abs(pitch).max() < 1.5


def test_events_are_those_of_a_pad_in_order_and_every_press_ends():
    events = ScriptedPad(0.0, 7).read([], 60.0)
    assert isinstance(events[0], Plugged)
    assert [event.t for event in events] == sorted(event.t for event in events)
    assert {type(event) for event in events[1:]} == {RawButton, RawStick, RawTrigger}
    assert {event.control for event in events[1:]} <= {*PAD_CONTROLS, "left", "right"}
    held: dict[str, bool] = {}
    for event in events:
        if isinstance(event, RawButton):
            assert held.get(event.control, False) != event.pressed
            held[event.control] = event.pressed
        elif isinstance(event, RawStick):
            assert np.hypot(event.x, event.y) <= 1.0 + 1e-9
        elif isinstance(event, RawTrigger):
            assert 0.0 <= event.value <= 1.0
    assert not any(held.values())
