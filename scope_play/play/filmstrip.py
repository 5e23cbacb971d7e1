"""Small pictures of what was played, to choose a moment to go back to."""

from __future__ import annotations

import numpy as np

from scope_play.images import thumbnail
from scope_play.play.engine.protocol import REACH_CHUNKS


class Strip:
    """Small pictures of the chunks that were shown, by chunk number, for the rewind screen."""

    def __init__(self, reach: int = REACH_CHUNKS) -> None:
        self.reach = reach
        self._pictures: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, chunk: int, frame: np.ndarray) -> None:
        self._pictures[chunk] = thumbnail(frame)
        self._pictures.pop(chunk - self.reach - 1, None)

    def cut(self, chunk: int) -> None:
        """Forget the pictures after `chunk`."""
        self._pictures = {number: picture for number, picture in self._pictures.items() if number <= chunk}

    def __getitem__(self, chunk: int) -> np.ndarray:
        return self._pictures[chunk]

    @property
    def oldest(self) -> int:
        return min(self._pictures, default=0)

    @property
    def newest(self) -> int:
        return max(self._pictures, default=0)
