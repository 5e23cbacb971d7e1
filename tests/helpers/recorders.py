"""Recorders that record nothing."""

from __future__ import annotations

from scope_play.runtime.cuda_graph import Replay


class Counting:
    """Counts what it was asked to record."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, function: Replay) -> Replay:
        self.count += 1
        return function
