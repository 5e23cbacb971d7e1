"""Dead zone, curve, sensitivity and trigger hysteresis: pure functions, so their laws are tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scope_play.actions import BUTTONS
from scope_play.play.input.events import PadState
from scope_play.play.input.shaping import StickShape, TriggerShape, shape_stick, trigger_pressed

axis = st.floats(-1.0, 1.0)
points = st.tuples(axis, axis)
angles = st.floats(-math.pi, math.pi)
shapes = st.builds(
    StickShape,
    dead_zone=st.floats(0.0, 0.5),
    full=st.floats(0.6, 1.0),
    curve=st.floats(0.5, 4.0),
    sensitivity=st.floats(0.2, 4.0),
    invert_y=st.booleans(),
)


def polar(length, angle):
    return (length * math.cos(angle), length * math.sin(angle))


@given(points, shapes)
def test_the_result_is_in_the_unit_disc_and_zero_exactly_in_the_dead_zone(point, shape):
    x, y = shape_stick(point, shape)
    assert math.hypot(x, y) <= 1.0 + 1e-9
    if math.hypot(*point) <= shape.dead_zone:
        assert (x, y) == (0.0, 0.0)


@given(angles, st.floats(0.0, 1.0), st.floats(0.0, 1.0), shapes)
def test_farther_out_is_never_less(angle, one, other, shape):
    low, high = sorted((one, other))
    assert (
        math.hypot(*shape_stick(polar(low, angle), shape)) <= math.hypot(*shape_stick(polar(high, angle), shape)) + 1e-9
    )


@given(angles, shapes)
def test_full_deflection_reaches_one_and_less_sensitive_sticks_their_sensitivity(angle, shape):
    assert math.hypot(*shape_stick(polar(shape.full + 1e-9, angle), shape)) == pytest.approx(
        min(1.0, shape.sensitivity)
    )


@given(points, shapes)
def test_the_direction_is_kept(point, shape):
    x, y = shape_stick(point, shape)
    assume(math.hypot(*point) > 1e-3 and (x, y) != (0.0, 0.0))
    if shape.invert_y:
        y = -y
    assert x * point[1] == pytest.approx(y * point[0], abs=1e-9)
    assert x * point[0] + y * point[1] > 0.0


@given(points, shapes)
def test_it_is_odd(point, shape):
    x, y = shape_stick(point, shape)
    assert shape_stick((-point[0], -point[1]), shape) == pytest.approx((-x, -y))


@given(angles, st.floats(0.0, 1.0), shapes.filter(lambda shape: shape.curve >= 1.0))
def test_it_is_continuous(angle, length, shape):
    """A small step moves the result by a bounded multiple of it, across the dead zone's edge too."""
    step = 1e-4
    here, there = shape_stick(polar(length, angle), shape), shape_stick(polar(length + step, angle), shape)
    steepest = shape.sensitivity * shape.curve / (shape.full - shape.dead_zone)
    assert math.dist(here, there) <= steepest * step * 1.01 + 1e-9


def test_there_is_no_jump_at_the_edge_of_the_dead_zone_and_inversion_flips_only_y():
    shape = StickShape(dead_zone=0.2, full=1.0)
    assert shape_stick((0.2001, 0.0), shape)[0] < 0.001
    assert shape_stick((0.6, 0.0), shape) == pytest.approx((0.5, 0.0))
    assert shape_stick((0.0, -1.0), StickShape(invert_y=True)) == (0.0, 1.0)


@given(st.lists(st.floats(0.0, 1.0), max_size=50), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_a_trigger_changes_only_across_its_thresholds(values, press, part):
    shape = TriggerShape(press=press, release=max(1e-3, press * part))
    pressed = False
    for value in values:
        after = trigger_pressed(value, pressed, shape)
        if value >= shape.press:
            assert after
        elif value < shape.release:
            assert not after
        else:
            assert after == pressed
        pressed = after


def test_a_state_is_a_row():
    state = PadState(south=True, north=True, left=(0.25, -1.0), right=(0.5, 0.0), start=True)
    assert state.row().tolist() == [0, 0, 1, 0, 0, 1, 0.25, -1.0, 0.5, 0.0]
    assert state.row().dtype == np.float32
    assert [name for name, pressed in zip(BUTTONS, state.buttons, strict=True) if pressed] == ["south", "north"]
