"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import psutil
import pytest

from scope_play.play.engine.heap import give_back


@pytest.mark.skipif(
    not (sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="glibc alone keeps it"
)
def test_what_was_freed_between_what_is_kept_is_given_back() -> None:
    process = psutil.Process()
    give_back()
    taken = [np.ones(10_000) for _ in range(2000)]  # 80 kB each: from the heap, not mapped one by one
    full = process.memory_info().rss
    kept = taken[::100]
    del taken
    give_back()
    assert full - process.memory_info().rss > 100e6
    assert all(array.sum() == 10_000 for array in kept)
