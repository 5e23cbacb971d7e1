"""Ctrl-C and SIGTERM: what is being made is finished or put away, never left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKED = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, so that every `finally` is heeded."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM; the second is let through. In another thread than the main one, never."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in ASKED}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_signals(stop: Callable[[float], None], drain: float) -> Callable[[], None]:
    """Ctrl-C stops at once, SIGTERM after `drain` seconds. Returns what gives the signals back."""
    import asyncio  # which `scope-play --help` need not wait for

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(stop, drain if number == signal.SIGTERM else 0.0)

    for number in before:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
