"""ActionSampler: what happened on the pad is in the rows, once, in order, and never long after."""

from __future__ import annotations

import math
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_play.actions import BUTTONS
from scope_play.play.input.action_sampler import (
    FLICK,
    INPUT_MODES,
    MAX_EVENTS,
    MAX_WAITING_EDGES,
    ROW_SECONDS,
    ActionSampler,
    flick_size,
)
from scope_play.play.input.events import ButtonEvent, LookEvent, ReleaseEvent, StickEvent

SOUTH = BUTTONS.index("south")
CHUNK = 4


def press(t, button="south"):
    return ButtonEvent(t, button, True)


def release(t, button="south"):
    return ButtonEvent(t, button, False)


def tap(t, length=0.005, button="south"):
    return [press(t, button), release(t + length, button)]


def rows_of(events, chunks, mode="exact", seconds=CHUNK * ROW_SECONDS):
    """The rows of `chunks` calls; every event is pushed before the first call that may see it."""
    timeline, rows, waiting = ActionSampler(0.0), [], list(events)
    for chunk in range(1, chunks + 1):
        while waiting and waiting[0].t <= chunk * seconds:
            timeline.push(waiting.pop(0))
        rows.append(timeline.rows(chunk * seconds, CHUNK, mode))
    return np.concatenate(rows)


def presses(column):
    """How many times a button column goes from released to pressed, counting from released."""
    return int((np.diff(np.concatenate([[0.0], column])) > 0).sum())


def test_a_held_button_covers_its_frames():
    rows = rows_of([press(0.06), release(0.16)], chunks=2)
    assert rows[:, SOUTH].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert rows.dtype == np.float32
    assert not np.delete(rows, SOUTH, axis=1).any()


def test_a_5_ms_tap_is_one_pressed_frame_in_its_own_place():
    assert rows_of(tap(0.110), chunks=2)[:, SOUTH].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_two_taps_in_one_frame_have_a_released_frame_between_them():
    assert rows_of(tap(0.055) + tap(0.075), chunks=2)[:, SOUTH].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


def test_a_double_tap_in_a_chunks_last_frame_goes_on_in_the_next_chunk():
    assert rows_of(tap(0.155) + tap(0.175), chunks=2)[:, SOUTH].tolist() == [0, 0, 0, 1, 0, 1, 0, 0]


def test_press_and_release_on_either_side_of_a_chunk_border():
    assert rows_of([press(0.198), release(0.202)], chunks=2)[:, SOUTH].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_released_and_pressed_again_within_a_frame_shows_the_gap():
    events = [press(0.01), release(0.06), press(0.08)]
    assert rows_of(events, chunks=1)[:, SOUTH].tolist() == [1, 0, 1, 1]


def test_responsive_rows_hold_the_newest_state():
    rows = rows_of(
        [press(0.01), StickEvent(0.02, "left", 0.5, -0.5), StickEvent(0.19, "left", 0.7, -0.7)], 1, "responsive"
    )
    assert rows[:, SOUTH].tolist() == [1, 1, 1, 1]
    assert np.allclose(rows[:, 6:8], (0.7, -0.7))


def test_responsive_still_shows_taps():
    assert rows_of(tap(0.05), 2, "responsive")[:, SOUTH].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert rows_of(tap(0.05) + tap(0.15), 2, "responsive")[:, SOUTH].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_in_slow_motion_the_rows_stretch_and_keep_the_order():
    events = [*tap(0.1, 0.1), StickEvent(0.5, "right", 1.0, 0.0)]
    rows = rows_of(events, chunks=1, seconds=0.8)
    assert rows[:, SOUTH].tolist() == [1, 0, 0, 0]
    assert rows[:, 8].tolist() == [0, 0, 1, 1]


def test_an_event_stamped_before_the_last_call_still_counts_and_a_future_one_waits():
    timeline = ActionSampler(0.0)
    timeline.rows(0.2, CHUNK)
    timeline.push(press(0.19))
    timeline.push(release(0.56))
    assert timeline.rows(0.4, CHUNK)[:, SOUTH].tolist() == [1, 1, 1, 1]
    assert timeline.rows(0.6, CHUNK)[:, SOUTH].tolist() == [1, 1, 1, 0]


def test_calls_without_time_between_them_repeat_the_state():
    timeline = ActionSampler(1.0)
    timeline.push(press(0.5))
    for _ in range(3):
        assert timeline.rows(1.0, CHUNK)[:, SOUTH].tolist() == [1, 1, 1, 1]


def test_menu_buttons_are_no_actions():
    assert not rows_of([ButtonEvent(0.01, "start", True)], 1).any()


def test_a_flick_is_one_row_at_its_farthest_point_and_a_slow_move_ends_where_it_ended():
    flick = [
        StickEvent(0.06, "right", 0.5, 0.1),
        StickEvent(0.07, "right", 0.9, 0.2),
        StickEvent(0.09, "right", 0.0, 0.0),
    ]
    assert np.allclose(rows_of(flick, 1)[:, 8:], [(0, 0), (0.9, 0.2), (0, 0), (0, 0)])
    slow = [StickEvent(0.01, "right", 0.3, 0.0), StickEvent(0.03, "right", 0.6, 0.0)]
    assert np.allclose(rows_of(slow, 1)[:, 8], 0.6)


def test_mouse_turns_add_up_and_a_swipe_dies_down():
    assert np.allclose(
        rows_of([LookEvent(0.01, 0.1, 0.0), LookEvent(0.02, 0.1, -0.2)], 1)[:, 8:], [(0.2, -0.2)] + [(0, 0)] * 3
    )
    swipe = rows_of([LookEvent(0.01, 4.0, 0.0)], 1)[:, 8]
    assert np.allclose(swipe, [1.0, 1.0, 0.25, 0.0])


def test_responsive_spreads_a_turn_over_the_rows():
    assert np.allclose(rows_of([LookEvent(0.01, 0.8, 0.4)], 1, "responsive")[:, 8:], (0.2, 0.1))


@pytest.mark.parametrize("mode", INPUT_MODES)
def test_release_all_lets_go_of_everything_but_keeps_what_was_done(mode):
    timeline = ActionSampler(0.0)
    for button in BUTTONS:
        timeline.push(press(0.01, button))
    for event in (*tap(0.01, button="start"), StickEvent(0.01, "left", 0.0, -1.0), LookEvent(0.01, 9.0, 0.0)):
        timeline.push(event)
    timeline.release_all(0.12)
    rows = timeline.rows(0.2, CHUNK, mode)
    assert (rows[0, :6] == 1).all()
    assert not rows[-1].any()
    assert not timeline.rows(0.4, CHUNK, mode).any()


def test_start_forgets():
    timeline = ActionSampler(0.0)
    timeline.push(press(0.01))
    timeline.push(StickEvent(0.01, "left", 1.0, 0.0))
    timeline.rows(0.2, CHUNK)
    timeline.push(press(0.3, "west"))
    timeline.start(9.0)
    assert not timeline.rows(9.2, CHUNK).any()


def test_memory_is_bounded_when_nobody_takes_rows_and_the_state_is_right_after():
    timeline = ActionSampler(0.0)

    def push(first, last):
        for k in range(first, last):
            timeline.push(StickEvent(k * 0.001, "left", math.sin(k), 0.0))
            timeline.push(LookEvent(k * 0.001, 1.0, 0.0))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = push(0, MAX_EVENTS)
        assert push(MAX_EVENTS, 3 * MAX_EVENTS) < 1.05 * full
    finally:
        tracemalloc.stop()
    timeline.push(press(13.0))
    timeline.push(StickEvent(13.0, "left", 0.5, 0.0))
    rows = timeline.rows(13.0, CHUNK)
    assert rows[-1, SOUTH] == 1
    assert timeline.rows(13.2, CHUNK)[0, 6] == 0.5


def test_pushing_and_taking_from_two_threads_loses_no_tap():
    timeline, taps = ActionSampler(0.0), 200
    pushed = [0.0]

    def push():
        for k in range(taps):
            for event in tap(k * 0.2 + 0.05):
                timeline.push(event)
            pushed[0] = (k + 1) * 0.2

    thread = threading.Thread(target=push)
    thread.start()
    rows, now = [], 0.0
    while now < taps * 0.2 - 1e-9:
        if pushed[0] > now:
            before, now = now, pushed[0]
            rows.append(timeline.rows(now, CHUNK * round((now - before) / 0.2)))
    thread.join()
    rows.append(timeline.rows(now + 0.2, CHUNK))
    assert presses(np.concatenate(rows)[:, SOUTH]) == taps


# ---- properties

gaps = st.floats(0.0005, 0.3)


@st.composite
def edge_times(draw, max_taps=20):
    """Increasing times of press, release, press, ... of one button."""
    steps = draw(st.lists(gaps, max_size=2 * max_taps).filter(lambda steps: len(steps) % 2 == 0))
    return np.cumsum(steps).tolist() if steps else []


def edges(times):
    return [ButtonEvent(t, "south", k % 2 == 0) for k, t in enumerate(times)]


def chunks_for(times):
    return int((times[-1] if times else 0.0) / 0.2) + 3


@given(edge_times(), st.sampled_from(INPUT_MODES))
def test_no_press_is_invented_and_the_end_is_true(times, mode):
    column = rows_of(edges(times), chunks_for(times), mode)[:, SOUTH]
    assert presses(column) <= len(times) // 2
    assert column[-1] == 0


@given(edge_times())
def test_every_press_arrives_when_edges_are_a_row_apart(times):
    spaced = [t + k * (ROW_SECONDS + 1e-6) for k, t in enumerate(times)]
    column = rows_of(edges(spaced), chunks_for(spaced))[:, SOUTH]
    assert presses(column) == len(spaced) // 2


@given(st.floats(0.0, 0.6), st.lists(st.floats(0.0005, 0.012), min_size=4, max_size=4))
def test_any_two_taps_close_together_both_arrive(start, steps):
    times = (start + np.cumsum(steps)).tolist()
    assert presses(rows_of(edges(times), chunks_for(times))[:, SOUTH]) == 2


@given(st.floats(0.0, 1.0), st.floats(0.01, 0.8), st.sampled_from(INPUT_MODES))
def test_a_single_tap_arrives_once_however_slow_the_world_is(at, seconds, mode):
    assert presses(rows_of(tap(at), int(1.2 / seconds) + 3, mode, seconds)[:, SOUTH]) == 1


@given(edge_times(max_taps=60))
def test_rows_are_never_far_behind(times):
    """After the last edge the rows reach the true level within the waiting edges, however fast the mashing."""
    held = times[:-1] if times else []
    chunks = chunks_for(held)
    column = rows_of(edges(held), chunks)[:, SOUTH]
    last = math.ceil(held[-1] / ROW_SECONDS) if held else 0
    assert (column[last + MAX_WAITING_EDGES :] == (len(held) % 2)).all()


@given(edge_times())
def test_no_press_comes_before_it_happened(times):
    column = rows_of(edges(times), chunks_for(times))[:, SOUTH]
    rising = np.flatnonzero(np.diff(np.concatenate([[0.0], column])) > 0)
    for row, t in zip(rising, times[0::2], strict=False):
        assert (row + 1) * ROW_SECONDS >= t - 1e-9


unit = st.floats(-1.0, 1.0, width=32)
points = st.tuples(unit, unit)


@st.composite
def stick_rows(draw):
    """Per time slot, the positions a stick passes in it, safely away from the slot's ends."""
    return draw(st.lists(st.lists(points, max_size=6), min_size=1, max_size=12))


@given(stick_rows(), st.sampled_from(INPUT_MODES))
def test_sticks_show_only_real_positions_and_lose_no_flick(slots, mode):
    seconds = 0.2 if mode == "responsive" else ROW_SECONDS
    events = [
        StickEvent((slot + (k + 1) / (len(path) + 1)) * seconds, "left", *point)
        for slot, path in enumerate(slots)
        for k, point in enumerate(path)
    ]
    rows = rows_of(events, len(slots), mode)[:, 6:8]
    end = (0.0, 0.0)
    for slot, path in enumerate(slots):
        start, end = end, (path[-1] if path else end)
        first, *rest = rows[slot * CHUNK : (slot + 1) * CHUNK] if mode == "responsive" else rows[slot : slot + 1]
        shown = tuple(first.tolist())
        largest = max((flick_size(start, point, end) for point in path), default=0.0)
        if largest >= FLICK:
            assert shown in path
            assert flick_size(start, shown, end) == pytest.approx(largest)
        else:
            assert shown == end
        assert all(tuple(row.tolist()) == end for row in rest)


@given(points.filter(lambda p: math.hypot(*p) >= FLICK), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_a_straight_flick_shows_its_tip_and_a_straight_move_its_end(tip, stops):
    out = [(tip[0] * s, tip[1] * s) for s in sorted(stops)] + [tip]
    back = [(tip[0] * s, tip[1] * s) for s in sorted(stops, reverse=True)] + [(0.0, 0.0)]

    def first_row(path):
        return rows_of([StickEvent(0.05 * (k + 1) / (len(path) + 1), "left", *p) for k, p in enumerate(path)], 1)[
            0, 6:8
        ]

    assert np.allclose(first_row(out + back), tip, atol=1e-6)
    assert np.allclose(first_row(out), tip, atol=1e-6)


@given(st.lists(st.tuples(st.floats(0.001, 0.1), unit, unit), max_size=30), st.sampled_from(INPUT_MODES))
def test_slow_mouse_turns_are_neither_lost_nor_invented(moves, mode):
    times = np.cumsum([step for step, _, _ in moves]) if moves else []
    events = [LookEvent(float(t), dx * 0.01, dy * 0.01) for t, (_, dx, dy) in zip(times, moves, strict=True)]
    rows = rows_of(events, int((events[-1].t if events else 0.0) / 0.2) + 2, mode)
    assert np.allclose(rows[:, 8:].sum(0), (sum(e.dx for e in events), sum(e.dy for e in events)), atol=1e-5)


anything = st.one_of(
    st.builds(ButtonEvent, st.floats(0, 3), st.sampled_from([*BUTTONS, "start"]), st.booleans()),
    st.builds(StickEvent, st.floats(0, 3), st.sampled_from(["left", "right"]), unit, unit).filter(
        lambda e: math.hypot(e.x, e.y) <= 1.0
    ),
    st.builds(LookEvent, st.floats(0, 3), st.floats(-9, 9), st.floats(-9, 9)),
    st.builds(ReleaseEvent, st.floats(0, 3)),
)


@given(
    st.lists(anything, max_size=60), st.lists(st.floats(0, 4), max_size=12).map(sorted), st.sampled_from(INPUT_MODES)
)
def test_rows_are_always_valid_actions(events, calls, mode):
    timeline = ActionSampler(0.0)
    for event in events:
        timeline.push(event)
    for now in calls:
        rows = timeline.rows(now, CHUNK, mode)
        assert set(np.unique(rows[:, :6])) <= {0.0, 1.0}
        assert np.isfinite(rows).all()
        assert (np.hypot(rows[:, 6], rows[:, 7]) <= 1 + 1e-6).all()
        assert (np.hypot(rows[:, 8], rows[:, 9]) <= 1 + 1e-6).all()
