"""No tap is lost and none invented on the way: however events are split into messages, rows are those of the pad."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.events import ButtonEvent, StickEvent
from scope_play.serve.hands import Hands
from scope_play.wire import messages

MOVES = st.lists(
    st.tuples(
        st.floats(0, 2000, allow_nan=False),
        st.sampled_from(("south", "right_trigger", "left", "right")),
        st.booleans(),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(MOVES, st.lists(st.floats(0, 2000), min_size=1, max_size=12))
def test_rows_are_those_of_the_pad(moves: list[Any], asked: list[float]) -> None:
    hands, sampler = Hands(), ActionSampler()
    hands.start(0.0)
    sampler.start(0.0)
    waiting = sorted(moves)
    batch: list[Any] = []

    def send() -> None:
        message = messages.read(messages.write(messages.In(batch)), messages.TO_SERVER)
        hands.take(message.events)
        batch.clear()

    for now in sorted(asked):
        while waiting and waiting[0][0] <= now:
            t, name, on, together = waiting.pop(0)
            if name in ("left", "right"):
                batch.append([t, "stick", name, 0.5 if on else 0.0, -0.25])
                sampler.push(StickEvent(t / 1000, name, 0.5 if on else 0.0, -0.25))  # type: ignore[arg-type]
            else:
                batch.append([t, "button", name, on])
                sampler.push(ButtonEvent(t / 1000, name, on))
            if together == 0:
                send()
        send()
        go = messages.read(json.dumps({"type": "go", "n": 1, "now": now}), messages.TO_SERVER)
        np.testing.assert_array_equal(hands.rows(go.now, 4), sampler.rows(now / 1000, 4))
