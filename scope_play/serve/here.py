"""Stages at the model in this process: each a seat on the floor."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scope_play.play.engine.protocol import Begin, Step
from scope_play.play.engine.seat import Moment, Seat, Take
from scope_play.serve.check import compare
from scope_play.serve.floor import Floor
from scope_play.serve.stage import SNAPSHOTS, Checked, Drawn, Progress, Setting

if TYPE_CHECKING:
    from scope_play.recording.replay import Script

Result = TypeVar("Result")


class HereStage:
    """See `Stage`. `closed` is called once the seat is given back."""

    def __init__(self, floor: Floor, history_bytes: int, closed: Callable[[], None] = lambda: None) -> None:
        self._floor, self._history_bytes, self._closed = floor, history_bytes, closed
        self._seat: Seat | None = None
        self._moments: dict[str, Moment] = {}

    @property
    def moments(self) -> Collection[str]:
        return self._moments.keys()

    def tell(self, told: Callable[[str], None]) -> None:
        """There is nothing to tell: if the model here is lost, so is the server."""

    async def begin(self, begin: Begin) -> np.ndarray:
        world = self._floor.ground.result().world
        self._moments.clear()
        make = partial(Seat, world, begin, history_bytes=self._history_bytes, clock=self._floor.clock)
        self._seat = seat = await self._ask(make)
        return seat.session.first_frame

    async def remake(self, begin: Begin, steps: list[Step], prompt: str | None, progress: Progress) -> np.ndarray:
        """The game that `steps` led to, begun anew and played again. Returns the frame last seen in it."""
        frame = await self.begin(begin)
        seat = self._playing

        def keep(take: Take) -> None:
            nonlocal frame
            frame = take.chunk.frames[-1]

        def again() -> None:
            for number, step in enumerate(steps):
                if step.prompt is not None and step.prompt != seat.prompt:
                    seat.set_prompt(step.prompt)
                seat.make(step.rows, keep)
                progress(number + 1, len(steps))
                self._floor.serve_others()
            if prompt is not None and prompt != seat.prompt:
                seat.set_prompt(prompt)

        await self._ask(again)
        return frame

    def make(self, rows: np.ndarray, due: float, delay: float, out: Callable[[Drawn], None]) -> asyncio.Future[None]:
        seat, floor = self._playing, self._floor
        asked = floor.clock()

        def run() -> None:
            began = floor.clock()

            def drawn(take: Take) -> None:
                denoise, decode = (1000 * take.chunk.timings.get(name, 0.0) for name in ("denoise", "decode"))
                work = 1000 * floor.worked(self, take.work)
                queued = 1000 * (began - asked)
                out(Drawn(take.index, take.chunk.frames, take.prompt, queued, denoise, decode, work))

            seat.make(rows, drawn)

        return asyncio.wrap_future(floor.ask(self, run, due=asked + due, not_before=asked + delay))

    async def go_back(self, chunk: int, progress: Progress) -> tuple[int, np.ndarray]:
        seat = self._playing
        self._floor.forget(self)

        def told(done: int, total: int) -> None:
            progress(done, total)
            self._floor.serve_others()

        frame = await self._ask(partial(seat.go_back, chunk, told))
        return len(seat.history.steps), frame

    async def set_prompt(self, text: str) -> None:
        await self._ask(partial(self._playing.set_prompt, text))

    async def snapshot(self, name: str) -> None:
        moment = await self._ask(self._playing.snapshot)
        if len(self._moments) >= SNAPSHOTS and name not in self._moments:
            del self._moments[next(iter(self._moments))]
        self._moments[name] = moment

    async def restore(self, name: str) -> list[Step]:
        moment = self._moments[name]
        await self._ask(partial(self._playing.restore, moment))
        return list(moment.steps)

    async def end(self) -> None:
        self._floor.forget(self)
        self._moments.clear()
        seat, self._seat = self._seat, None
        if seat:
            await self._ask(seat.close)

    async def check(self, script: Script, tell: Checked) -> None:
        stopped = threading.Event()
        floor = self._floor
        world = floor.ground.result().world
        job = partial(compare, script, world, floor.serve_others, tell, stopped.is_set)
        try:
            await asyncio.wrap_future(floor.ask(object(), job))
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def close(self) -> None:
        await self.end()
        self._floor.forget(self)
        self._closed()

    @property
    def _playing(self) -> Seat:
        if self._seat is None:
            raise RuntimeError("no game has begun")
        return self._seat

    async def _ask(self, job: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self._floor.ask(self, job))


class HereChairs:
    """See `Chairs`: `seats` of them, sharing `history_bytes`."""

    at_once = 0.01

    def __init__(self, floor: Floor, seats: int, history_bytes: int) -> None:
        self._floor, self._free, self._each = floor, seats, history_bytes // seats
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def ready(self) -> bool:
        return self._floor.ground.done()

    async def setting(self) -> Setting:
        ground = await asyncio.shield(asyncio.wrap_future(self._floor.ground))
        return Setting(ground.world.spec, dict(ground.world.identity), ground.picture, ground.build)

    async def take(self) -> HereStage:
        if self._free:
            self._free -= 1
            return self._seat()
        turn: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise
        return self._seat()

    def _seat(self) -> HereStage:
        return HereStage(self._floor, self._each, self._give_back)

    def _give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
