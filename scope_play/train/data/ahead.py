"""Answers worked out before they are asked for: a GPU learns faster than one process can play games for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A pure function of a few numbers and words, asked in `workers` processes of its own; none by default.

    What was not prepared is worked out when it is asked for, so that answers never depend on what was prepared.
    """

    def __init__(self, function: Callable[..., T], workers: int = 0) -> None:
        self._function, self._workers = function, workers
        self._pool: ProcessPoolExecutor | None = None
        self._prepared: dict[tuple[int | str, ...], Future[T]] = {}

    @property
    def depth(self) -> int:
        """How many answers ahead it pays to prepare."""
        return 2 * self._workers

    def prepare(self, *asked: int | str) -> None:
        if self._workers == 0 or asked in self._prepared:
            return
        if self._pool is None:
            # A process that holds a GPU cannot be forked.
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _work_quietly)
        self._prepared[asked] = self._pool.submit(self._function, *asked)

    def __call__(self, *asked: int | str) -> T:
        prepared = self._prepared.pop(asked, None)
        return self._function(*asked) if prepared is None else prepared.result()


def _work_quietly() -> None:
    """On one core, and leaving Ctrl-C to the process that asks."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
