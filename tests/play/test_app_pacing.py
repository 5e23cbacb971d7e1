"""Pacing as a pure function: a simulated engine and window run through traces of chunk times on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_play.play import pacing
from scope_play.play.pacing import Pace

BEAT = 0.05
CHUNK = 4
POLL = 0.004


@dataclass(frozen=True)
class Showing:
    """Frame `number` (from 0, over all chunks) shown at `at`; its chunk was sampled and ready at these times."""

    number: int
    at: float
    sampled: float
    ready: float
    hint: str


def play(works: Sequence[float], poll: float = POLL) -> list[Showing]:
    """The engine's gate and the window's loop as they are in the app, on a clock that moves `poll` a turn."""
    pace = Pace(round(1 / BEAT), CHUNK)
    pending: list[tuple[int, float, float]] = []
    showings: list[Showing] = []
    made, sampled, ready = 0, 0.0, None
    begin: float | None = None
    turn = 0
    while made < len(works) or pending or ready is not None:
        now = turn * poll
        turn += 1
        if ready is None and begin is not None and now >= begin and made < len(works):
            sampled, ready, begin = now, now + works[made], None
        if ready is not None and now >= ready:
            pace = pacing.arrived(pace, works[made])
            pending += [(made * CHUNK + part, sampled, ready) for part in range(CHUNK)]
            made, ready, begin = made + 1, None, None
        if pending and pacing.is_due(pace, now):
            number, was_sampled, was_ready = pending.pop(0)
            pace = pacing.shown(pace, now, first=number % CHUNK == 0)
            showings.append(Showing(number, now, was_sampled, was_ready, pacing.hint(pace)))
        begin = pacing.begin_at(pace, now, len(pending))
    return showings


def gaps(showings: Sequence[Showing]) -> list[float]:
    return [b.at - a.at for a, b in itertools.pairwise(showings)]


def test_real_time_is_an_even_beat() -> None:
    showings = play([0.1] * 50)
    assert all(abs(gap - BEAT) <= POLL + 1e-9 for gap in gaps(showings)[CHUNK:])
    assert showings[-1].at - showings[CHUNK].at == pytest.approx((len(showings) - 1 - CHUNK) * BEAT, abs=2 * POLL)
    assert showings[-1].hint == "real time"


def test_the_pad_is_sampled_as_late_as_the_work_allows() -> None:
    settled = [s for s in play([0.06] * 40)[40:] if s.number % CHUNK == 0]
    assert all(s.at - s.sampled <= 0.06 + pacing.MARGIN + 3 * POLL for s in settled)


def test_jitter_below_the_beat_is_not_seen() -> None:
    trace = [0.08, 0.15, 0.11, 0.17, 0.09, 0.16, 0.12, 0.17] * 8
    assert all(abs(gap - BEAT) <= POLL + 1e-9 for gap in gaps(play(trace))[4 * CHUNK :])


def test_a_slow_model_plays_evenly_in_slow_motion() -> None:
    showings = play([0.4] * 30)
    settled = gaps(showings)[3 * CHUNK :]
    assert all(abs(gap - 0.4 * pacing.STRETCH / CHUNK) <= 2 * POLL for gap in settled)
    assert showings[-1].hint == "slow 0.49x"


def test_a_stall_holds_the_frame_and_leaves_no_trace() -> None:
    showings = play([0.1] * 20 + [1.5] + [0.1] * 40)
    pauses = [gap for gap in gaps(showings)[CHUNK:] if gap > BEAT + POLL + 1e-9]
    assert len(pauses) == 1
    assert min(gaps(showings)) >= BEAT / 2
    assert showings[-1].hint == "real time"
    assert showings[-1].at - showings[-1].sampled < 0.5


def test_recovery_comes_back_to_real_time() -> None:
    showings = play([0.4] * 20 + [0.1] * 30)
    assert showings[20 * CHUNK - 1].hint.startswith("slow")
    assert showings[-1].hint == "real time"
    assert all(abs(gap - BEAT) <= POLL + 1e-9 for gap in gaps(showings)[-10 * CHUNK :])


def test_a_model_at_the_border_does_not_flutter() -> None:
    showings = play([0.195, 0.205] * 40)
    changes = sum(a.hint != b.hint for a, b in itertools.pairwise(showings))
    assert changes <= 1


works = st.lists(st.floats(0.001, 1.2), min_size=1, max_size=60)


@given(works, st.sampled_from([0.001, 0.004, 0.016]))
def test_every_frame_once_in_order_without_bursts_or_growing_delay(trace: list[float], poll: float) -> None:
    showings = play(trace, poll)
    assert [s.number for s in showings] == list(range(CHUNK * len(trace)))
    assert all(gap >= BEAT / 2 - poll - 1e-9 for gap in gaps(showings))
    slowest = BEAT
    for showing in showings[::CHUNK]:
        # A finished chunk waits at most for the one on screen, however slow that one plays.
        assert showing.at - showing.ready <= CHUNK * slowest + 2 * poll + 1e-9
        slowest = max(BEAT, max(trace) * pacing.STRETCH / CHUNK)


@given(works)
def test_the_interval_stays_within_what_was_measured(trace: list[float]) -> None:
    pace = Pace(20, CHUNK)
    for work in trace:
        pace = pacing.shown(pacing.arrived(pace, work), 0.0, first=True)
        assert BEAT <= pace.interval <= max(BEAT, max(trace) * pacing.STRETCH / CHUNK) + 1e-9


def test_after_a_pause_play_goes_on_at_once_on_a_new_grid() -> None:
    pace = pacing.shown(Pace(20, CHUNK), 10.0, first=True)
    pace = pacing.stood_still(pace)
    assert pacing.is_due(pace, 10.001)
    assert pacing.shown(pace, 99.0, first=False).due == pytest.approx(99.0 + BEAT)
