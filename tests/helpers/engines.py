"""Waiting for what an engine has to say."""

from __future__ import annotations

import time

import pytest

from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import Event, Failed

LIMIT = 60.0


def await_one(engine: LocalEngine, kind: type[Event]) -> Event:
    """The next event of that kind; those before it are dropped, and a failure is one of the test."""
    end = time.monotonic() + LIMIT
    while engine.wait(end - time.monotonic()):
        event = engine.take()
        if isinstance(event, Failed):
            pytest.fail(event.text)
        if isinstance(event, kind):
            return event
    pytest.fail(f"no {kind.__name__}")
