"""Going back: keyframes thinned to a memory budget, and a re-run from the nearest one to reach any chunk exactly.

Noise depends only on (seed, chunk), so a chunk made again from the same state and the same rows is the same chunk.
`History` lives with the engine and holds what rebuilds the world; `play.filmstrip` holds what the player sees while
choosing where to go back to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scope_play.play.engine.protocol import REACH_CHUNKS, Step

if TYPE_CHECKING:
    from scope_play.session.interfaces import SessionLike, SnapshotLike

BUDGET_BYTES = 512 << 20
KEYFRAME_EVERY = 5
"""Chunks between keyframes before thinning: at most four chunks to re-run near the present."""
LARGE_BYTES = 128 << 20
"""From here on a keyframe takes time to copy, and they are so much rarer as they are larger."""
LARGE_KEYFRAMES = 3
"""So many are kept beyond the budget, where half of the free memory is enough for them."""


@dataclass(frozen=True)
class Keyframe:
    """The world after `chunk` chunks, and the frame that was last seen then, uint8 (H, W, 3)."""

    chunk: int
    snapshot: SnapshotLike
    frame: np.ndarray


class History:
    """The steps since the session began, and keyframes for the last `reach` chunks within `budget` bytes.

    Keyframes lie in host memory. What a large model remembers exceeds the budget: of such keyframes a few are kept, as
    far as `free` says that there is room. A budget of 0 keeps none.
    """

    def __init__(
        self,
        budget: int = BUDGET_BYTES,
        reach: int = REACH_CHUNKS,
        free: Callable[[], int] = lambda: 0,
    ) -> None:
        self.budget = budget
        self.reach = reach
        self.free = free
        self.steps: list[Step] = []
        self.keyframes: list[Keyframe] = []

    def begin(self, session: SessionLike) -> None:
        """Forget everything; `session` has just begun."""
        self.steps, self.keyframes = [], []
        if session.snapshot_nbytes < LARGE_BYTES:  # a restart is as quick
            self._keep(session, session.first_frame)

    def add(self, session: SessionLike, step: Step, frame: np.ndarray) -> None:
        """`session` has just made a chunk from `step`, ending in `frame`."""
        self.steps.append(step)
        every = KEYFRAME_EVERY * max(1, session.snapshot_nbytes // LARGE_BYTES)
        if len(self.steps) - (self.keyframes[-1].chunk if self.keyframes else 0) >= every:
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
        self, session: SessionLike, chunk: int, restart: Callable[[], SessionLike], progress: Callable[[int, int], None]
    ) -> tuple[SessionLike, np.ndarray]:
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
        stream = self.steps[done - 1].stream if done else self.steps[0].stream if self.steps else None
        start = done
        for step in self.steps[done:chunk]:
            progress(done - start, chunk - start)
            if step.prompt is not None and step.prompt != prompt:
                session.set_prompt(step.prompt)
                prompt = step.prompt
            if step.stream is not None and step.stream != stream:
                session.set_stream(step.stream)
                stream = step.stream
            frame = session.step(step.rows).frames[-1]
            done += 1
        del self.steps[chunk:]
        self.keyframes = [k for k in self.keyframes if k.chunk <= chunk]
        return session, frame

    def _keep(self, session: SessionLike, frame: np.ndarray) -> None:
        size = session.snapshot_nbytes + frame.nbytes
        if size > self.budget > 0:
            if len(self.keyframes) == LARGE_KEYFRAMES:
                self._drop_one()
            fits = size <= self.free() // 2
        else:
            fits = size <= self.budget
        if fits:
            self.keyframes.append(Keyframe(len(self.steps), session.snapshot(on_host=True), frame.copy()))

    def _thin(self) -> None:
        while len(self.keyframes) > 1 and self.keyframes[1].chunk <= self.oldest:
            del self.keyframes[0]
        large = any(k.snapshot.nbytes + k.frame.nbytes > self.budget for k in self.keyframes)
        while not large and self.nbytes > self.budget:
            self._drop_one()

    def _drop_one(self) -> None:
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
