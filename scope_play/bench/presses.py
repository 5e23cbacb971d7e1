"""From presses on a pad to the frames that answer them: which press a pressed row shows, and how long it took."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from scope_play.actions import BUTTONS
from scope_play.bench.hands import Press

LOST_AFTER = 4
"""Chunks after which a press that no row has shown is given up: edges may wait their turn for at most one chunk."""


@dataclass
class Answers:
    """Matches presses with the rows that show them, chunk by chunk.

    `first` holds the seconds from each press to the first frame that was made in knowledge of it, `own` those to the
    frame that its row leads to (rows of a chunk lead to its frames one by one). `lost` counts presses that no row
    showed, `invented` pressed rows that no press stands behind.
    """

    columns: tuple[str, ...] = BUTTONS
    first: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    lost: int = 0
    invented: int = 0
    _waiting: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    _held: dict[str, bool] = field(default_factory=dict)
    _due: list[tuple[int, float]] = field(default_factory=list)
    _chunks: int = 0

    def press(self, presses: Iterable[Press]) -> None:
        """These were made since the last chunk, the oldest first."""
        for press in presses:
            self._waiting.setdefault(press.column, deque()).append((press.at, self._chunks))

    def frame(self, rows: np.ndarray, part: int, shown: float) -> None:
        """Frame `part` of the chunk made from `rows`, float32 (n, 10), came on screen at clock time `shown`."""
        if part == 0:
            self._chunk(rows, shown)
        self.own += [shown - at for row, at in self._due if row == part]

    def _chunk(self, rows: np.ndarray, shown: float) -> None:
        self._chunks += 1
        self._due.clear()
        for column in self.columns:
            waiting = self._waiting.setdefault(column, deque())
            for row, pressed in enumerate(rows[:, BUTTONS.index(column)] > 0):
                if pressed and not self._held.get(column, False):
                    if waiting:
                        at, _ = waiting.popleft()
                        self.first.append(shown - at)
                        self._due.append((row, at))
                    else:
                        self.invented += 1
                self._held[column] = bool(pressed)
            while waiting and self._chunks - waiting[0][1] > LOST_AFTER:
                waiting.popleft()
                self.lost += 1
