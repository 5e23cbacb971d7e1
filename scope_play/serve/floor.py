"""The one thread that owns the model, shared by several games.

Each owner's jobs run in the order they were asked for; between owners the job that is due first runs first. Games are
interleaved chunk by chunk and never batched, so each is the game it would be alone, bit for bit.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scope_play.actions import ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.play.engine.open import open_here
from scope_play.play.engine.protocol import Clock
from scope_play.recording.metadata import BuildSetup
from scope_play.session.interfaces import Rehearsing

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.session.interfaces import WorldLike

BUSY_SECONDS = 1.0
"""An owner whose last chunk is older than this takes no share of the model."""

Result = TypeVar("Result")


@dataclass
class _Job:
    run: Callable[[], Any]
    due: float
    not_before: float
    result: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True)
class Ground:
    """A loaded world; `picture` is its own first frame, uint8 (H, W, 3), if it has one; `build` that of its thread;
    `session_bytes`: what a session remembers at most, as far as its first chunk tells."""

    world: WorldLike
    picture: np.ndarray | None
    build: BuildSetup
    session_bytes: int


class Floor:
    """`ground` has the world as soon as it is loaded and warm, or what was wrong."""

    def __init__(
        self,
        request: LoadRequest,
        *,
        seats: int = 1,
        history_bytes: int = 0,
        open_world: Callable[[LoadRequest], WorldLike] = open_here,
        clock: Clock = time.perf_counter,
    ) -> None:
        """For so many games at once, with so much to go back by, together."""
        self.clock = clock
        self._seats, self._history_bytes = seats, history_bytes
        self.ground: Future[Ground] = Future()
        self._request = request
        self._open_world = open_world
        self._changed = threading.Condition()
        self._jobs: dict[object, deque[_Job]] = {}
        self._running: list[object] = []
        self._works: dict[object, tuple[float, float]] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="floor", daemon=True)
        self._thread.start()

    def ask(
        self, owner: object, run: Callable[[], Result], *, due: float = 0.0, not_before: float = 0.0
    ) -> Future[Result]:
        """Run it in the model's thread. Times are of `clock`; a job that need not be in time is due late."""
        job = _Job(run, due or self.clock(), not_before)
        with self._changed:
            if self._closing:
                job.result.cancel()
            else:
                self._jobs.setdefault(owner, deque()).append(job)
                self._changed.notify()
        return job.result

    def forget(self, owner: object) -> None:
        """Drop the owner's jobs that have not begun."""
        with self._changed:
            for job in self._jobs.pop(owner, ()):
                job.result.cancel()
            self._works.pop(owner, None)

    def worked(self, owner: object, seconds: float) -> float:
        """A chunk took so long. Returns what one takes while all play: the sum over those who do."""
        now = self.clock()
        with self._changed:
            self._works[owner] = (now, seconds)
            return sum(work for at, work in self._works.values() if now - at < BUSY_SECONDS)

    def serve_others(self) -> None:
        """From within a long job: let the others' due jobs pass."""
        while job := self._next(wait=False):
            self._do(*job)

    def close(self, seconds: float = 5.0) -> bool:
        """Stop after the job under way; False if it was still busy after `seconds`."""
        with self._changed:
            self._closing = True
            for owner in list(self._jobs):
                for job in self._jobs.pop(owner):
                    job.result.cancel()
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # Below: the model's own thread.

    def _run(self) -> None:
        try:
            self.ground.set_result(self._load())
        except Exception as error:  # noqa: BLE001 - whoever waits for the world gets it
            self.ground.set_exception(error)
            return
        while job := self._next(wait=True):
            self._do(*job)

    def _load(self) -> Ground:
        world = self._open_world(self._request)
        spec = world.spec
        grey = np.full((spec.height, spec.width, 3), 127, np.uint8)
        with world.start(None if spec.has_scene else grey) as session:
            session.step(np.zeros((spec.frames_per_chunk, ROW_WIDTH), np.float32))
            picture = session.first_frame if spec.has_scene else None
            ground = Ground(world, picture, BuildSetup.here(), session.snapshot().nbytes)
        require_room(ground, self._seats, self._history_bytes)
        if isinstance(world, Rehearsing):
            world.rehearse(self._seats)
        return ground

    def _do(self, owner: object, job: _Job) -> None:
        if not job.result.set_running_or_notify_cancel():
            return
        self._running.append(owner)
        try:
            job.result.set_result(job.run())
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            job.result.set_exception(error)
        finally:
            self._running.pop()

    def _next(self, wait: bool) -> tuple[object, _Job] | None:
        with self._changed:
            while not self._closing:
                now = self.clock()
                heads = [(owner, jobs[0]) for owner, jobs in self._jobs.items() if owner not in self._running]
                ready = [head for head in heads if head[1].not_before <= now]
                if ready:
                    owner, job = min(ready, key=lambda head: head[1].due)
                    self._jobs[owner].popleft()
                    if not self._jobs[owner]:
                        del self._jobs[owner]
                    return owner, job
                if not wait:
                    return None
                later = min((job.not_before for _, job in heads), default=None)
                self._changed.wait(None if later is None else later - now)
        return None


def require_room(ground: Ground, seats: int, history_bytes: int) -> None:
    """Raises ScopeError unless so many sessions fit beside the loaded world: only now is it known what is free."""
    import torch

    from scope_play.loading.free_memory import FreeMemory

    world = ground.world
    free = FreeMemory.now(torch.device(world.spec.device))
    idle = world.idle_bytes if isinstance(world, Rehearsing) else 0
    require_memory(seats, ground.session_bytes, history_bytes, free.device + idle, free.host)


def require_memory(seats: int, session_bytes: int, history_bytes: int, device_free: int, host_free: int) -> None:
    """Raises ScopeError unless so many sessions fit, and what they keep to go back."""
    if seats * session_bytes > device_free:
        fit = device_free // session_bytes
        what = "1 seat takes" if seats == 1 else f"{seats} seats take"
        mend = f"--seats {fit} or a smaller window" if fit else "a smaller window or model"
        raise ScopeError(f"{what} {seats * session_bytes >> 20} MB and {device_free >> 20} MB are free; choose {mend}.")
    if history_bytes > host_free:
        raise ScopeError(
            f"--history-mb {history_bytes >> 20} is more than the {host_free >> 20} MB that are free; choose less."
        )
