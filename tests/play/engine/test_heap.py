"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from scope_play.play.engine.heap import give_back


def library(monkeypatch: pytest.MonkeyPatch, **calls: object) -> None:
    """A C library with these calls alone, on Linux."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**calls))


@pytest.mark.parametrize("gave", [0, 1])
def test_glibc_is_asked_to_keep_nothing_and_its_answer_is_told(monkeypatch: pytest.MonkeyPatch, gave: int) -> None:
    kept: list[int] = []

    def malloc_trim(keep: int) -> int:
        kept.append(keep)
        return gave

    library(monkeypatch, malloc_trim=malloc_trim)
    assert give_back() is bool(gave)
    assert kept == [0]


def test_other_c_libraries_have_nothing_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch)
    assert give_back() is False


@pytest.mark.skipif(
    not (sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="glibc alone keeps it"
)
def test_the_real_one_has_something_to_give_and_then_no_more() -> None:
    """Blocks of the heap's own, a hundred times as many as are kept between them."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(80_000) for _ in range(500)]
    for block in blocks:
        ctypes.memset(block, 1, 80_000)
    for number, block in enumerate(blocks):
        if number % 100:
            libc.free(block)
    assert give_back()
    for block in blocks[::100]:
        libc.free(block)
