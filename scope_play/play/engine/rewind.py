"""Going back: keyframes thinned to a memory budget, and a re-run from the nearest one to reach any chunk exactly.

Noise depends only on (seed, chunk), so a chunk made again from the same state and the same rows is the same chunk.
`History` lives with the engine and holds what rebuilds the world; `Strip` lives with the window and holds what the
player sees while choosing where to go back to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scope_play.world import Session, Snapshot

BUDGET_BYTES = 512 << 20
REACH_CHUNKS = 600
"""Two minutes of chunks of 200 ms."""

KEYFRAME_EVERY = 5
"""Chunks between keyframes before thinning: at most four chunks to re-run near the present."""

THUMBNAIL_HEIGHT = 96
"""Small worlds are kept whole; two minutes of them are 28 MB."""


@dataclass(frozen=True, slots=True)  # all of a session's are kept: an hour has 18,000
class Step:
    """What made one chunk: rows float32 (frames_per_chunk, 10) and the prompt it was made under."""

    rows: np.ndarray
    prompt: str | None


@dataclass(frozen=True)
class Keyframe:
    """The world after `chunk` chunks, and the frame that was last seen then, uint8 (H, W, 3)."""

    chunk: int
    snapshot: Snapshot
    frame: np.ndarray


class History:
    """The steps since the session began, and keyframes for the last `reach` chunks within `budget` bytes."""

    def __init__(self, budget: int = BUDGET_BYTES, reach: int = REACH_CHUNKS) -> None:
        self.budget = budget
        self.reach = reach
        self.steps: list[Step] = []
        self.keyframes: list[Keyframe] = []

    def begin(self, session: Session) -> None:
        """Forget everything; `session` has just begun."""
        self.steps, self.keyframes = [], []
        self._keep(session, session.first_frame)

    def add(self, session: Session, step: Step, frame: np.ndarray) -> None:
        """`session` has just made a chunk from `step`, ending in `frame`."""
        self.steps.append(step)
        if self.keyframes and len(self.steps) - self.keyframes[-1].chunk >= KEYFRAME_EVERY:
            self._keep(session, frame)
            self._thin()

    @property
    def nbytes(self) -> int:
        return sum(k.snapshot.nbytes + k.frame.nbytes for k in self.keyframes)

    @property
    def oldest(self) -> int:
        """The first chunk that can be gone back to."""
        return max(0, len(self.steps) - self.reach)

    def go_back(
        self, session: Session, chunk: int, restart: Callable[[], Session], progress: Callable[[int, int], None]
    ) -> tuple[Session, np.ndarray]:
        """Bring the world to where it was after `chunk` chunks and forget what came later.

        Returns the session (a new one from `restart` when no keyframe fits the budget) and the frame last seen
        then. `progress(done, total)` is called before every chunk that is made again.
        """
        chunk = min(max(chunk, self.oldest), len(self.steps))
        at = bisect_right([k.chunk for k in self.keyframes], chunk) - 1
        if at >= 0:
            key = self.keyframes[at]
            session.restore(key.snapshot)
            frame, done = key.frame, key.chunk
        else:
            session.close()
            session = restart()
            frame, done = session.first_frame, 0
        prompt = self.steps[done - 1].prompt if done else None
        start = done
        for step in self.steps[done:chunk]:
            progress(done - start, chunk - start)
            if step.prompt is not None and step.prompt != prompt:
                session.set_prompt(step.prompt)
                prompt = step.prompt
            frame = session.step(step.rows).frames[-1]
            done += 1
        del self.steps[chunk:]
        self.keyframes = [k for k in self.keyframes if k.chunk <= chunk]
        return session, frame

    def _keep(self, session: Session, frame: np.ndarray) -> None:
        snapshot = session.snapshot()
        if snapshot.nbytes + frame.nbytes <= self.budget:
            self.keyframes.append(Keyframe(len(self.steps), snapshot, frame.copy()))

    def _thin(self) -> None:
        while len(self.keyframes) > 1 and self.keyframes[1].chunk <= self.oldest:
            del self.keyframes[0]
        while self.nbytes > self.budget:
            del self.keyframes[least_useful([k.chunk for k in self.keyframes], len(self.steps))]


def least_useful(chunks: Sequence[int], newest: int) -> int:
    """Position of the keyframe to drop: the one whose neighbours leave the smallest gap for its age.

    The first keyframe is the only way back to the oldest chunks and the last the quickest way back to the newest,
    so they go only when nothing else is left. Gaps then grow with age: going back a little is immediate, going
    back far takes a longer re-run.
    """
    if len(chunks) <= 2:
        return 0
    inner = range(1, len(chunks) - 1)
    return min(inner, key=lambda i: (chunks[i + 1] - chunks[i - 1]) / (newest - chunks[i] + 1))


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


def thumbnail(frame: np.ndarray, height: int = THUMBNAIL_HEIGHT) -> np.ndarray:
    """uint8 (H, W, 3) to at most `height` rows by averaging whole blocks of pixels."""
    block = -(-frame.shape[0] // height)
    if block == 1:
        return frame.copy()
    rows, columns = frame.shape[0] // block, frame.shape[1] // block
    blocks = frame[: rows * block, : columns * block].reshape(rows, block, columns, block, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float32).astype(np.uint8)
