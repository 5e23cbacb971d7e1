"""One running game: its session, what it was begun with, and the way back. An engine runs one, a server several."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scope_play.errors import ScopeError
from scope_play.play.engine.heap import give_back
from scope_play.play.engine.protocol import Begin, Clock, Step
from scope_play.play.engine.rewind import BUDGET_BYTES, History
from scope_play.session.interfaces import Overlapping

if TYPE_CHECKING:
    from scope_play.sampling.stream_config import StreamConfig
    from scope_play.session.interfaces import Chunk, SessionLike, SnapshotLike, WorldLike

GIVE_BACK_EVERY = 50
"""Chunks between two times that freed memory is given back."""


@dataclass(frozen=True)
class Take:
    """A chunk just made, the `index`-th from 1; `ready`: clock time; `work`: seconds since the one before was out, less
    idle time."""

    index: int
    chunk: Chunk
    prompt: str | None
    ready: float
    work: float


@dataclass(frozen=True)
class Moment:
    """A game as it was after `steps`."""

    snapshot: SnapshotLike
    steps: tuple[Step, ...]
    prompt: str | None
    stream: StreamConfig | None


class Seat:
    """A game that has begun. All of it belongs to one thread, the one that owns `world`."""

    def __init__(
        self,
        world: WorldLike,
        begin: Begin,
        *,
        stream: StreamConfig | None = None,
        history_bytes: int = BUDGET_BYTES,
        free: Callable[[], int] = lambda: 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        """`stream`: how it is denoised, if not as the world was loaded; `history_bytes` and `free`: see `History`."""
        self.world = world
        self.begin = begin
        self.prompt = begin.prompt
        self.stream = self._first_stream = stream
        self.timings: dict[str, float] = {}
        self._clock = clock
        self.session = self._start()
        self.history = History(history_bytes, free=free)
        self.history.begin(self.session)
        self._owed = 0.0

    @property
    def overlaps(self) -> bool:
        """Whether a chunk can be begun beside the decoding of the one before."""
        return isinstance(self.session, Overlapping) and self.session.overlaps

    def make(
        self, rows: np.ndarray, out: Callable[[Take], None], following: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Make the chunk that `rows`, float32 (frames_per_chunk, 10), lead to. `out` gets it before the housekeeping,
        which costs no delay, only time for the next chunk. `following`: the rows to make the next one with, which is
        begun beside, where that can be done; see `overlaps`."""
        began = self._clock()
        if following is not None and isinstance(self.session, Overlapping):
            chunk = self.session.step_ahead(rows, following)
        else:
            chunk = self.session.step(rows, defer_commit=True)
        ready = self._clock()
        out(Take(self.session.index, chunk, self.prompt, ready, ready - began + self._owed))
        self.session.flush_commit()
        self.timings = chunk.timings
        self.history.add(self.session, Step(rows, self.prompt, self.stream), chunk.frames[-1])
        if len(self.history.steps) % GIVE_BACK_EVERY == 0:
            give_back()
        self._owed = self._clock() - ready

    def set_prompt(self, prompt: str) -> None:
        """From the next chunk on. Whatever it raises, nothing has changed then."""
        self.session.set_prompt(prompt)
        self.prompt = prompt

    def set_stream(self, stream: StreamConfig) -> None:
        """How it is denoised from the next chunk on. Whatever it raises, nothing has changed then."""
        self.session.set_stream(stream)
        self.stream = stream

    def _start(self) -> SessionLike:
        session = self.world.start(self.begin.image, self.begin.prompt, self.begin.seed)
        if self._first_stream is not None:
            session.set_stream(self._first_stream)
        return session

    def go_back(self, chunk: int, progress: Callable[[int, int], None]) -> np.ndarray:
        """To the state after `chunk` chunks. Returns the frame last seen then; see `History.go_back`."""
        self.session, frame = self.history.go_back(self.session, chunk, self._start, progress)
        steps = self.history.steps
        self.prompt = steps[-1].prompt if steps else self.begin.prompt
        self.stream = steps[-1].stream if steps else self._first_stream
        return frame

    def snapshot(self) -> Moment:
        return Moment(self.session.snapshot(), tuple(self.history.steps), self.prompt, self.stream)

    def restore(self, moment: Moment) -> None:
        """To a moment of this game, also of a line of play that was left. Keyframes are of one line, so they go."""
        self.session.restore(moment.snapshot)
        self.prompt, self.stream = moment.prompt, moment.stream
        self.history.steps, self.history.keyframes = list(moment.steps), []

    def close(self) -> None:
        self.session.close()


def in_a_sentence(error: BaseException, doing: str) -> str:
    """What a model can raise, as a sentence for the player."""
    if isinstance(error, ScopeError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "alloc" in str(error).lower():
        return f"Out of memory while {doing}; close other programs, or choose a smaller model or window."
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"Stopped while {doing}: {first_line}"
