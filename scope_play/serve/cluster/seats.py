"""Replicas that own a model each: their players sit in requests that last as long as they play.

`attach` is one request a player, so Ray Serve itself counts the seats, keeps who has none waiting, adds replicas, and
waits for players before it stops one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

from scope_play.play.engine.open import open_here
from scope_play.play.engine.seat import in_a_sentence
from scope_play.serve.cluster.post import Letter
from scope_play.serve.floor import Floor
from scope_play.serve.here import HereStage
from scope_play.serve.stage import Setting

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest

Reply = tuple[int, str, Any]
"""A letter's number; "done", "failed" with a sentence, "drawn" with a `Drawn` or "told" with numbers; and that."""


class Seats:
    """A deployment of Ray Serve. `history_bytes`: for going back, all its seats together."""

    async def __init__(  # type: ignore[misc]  # Ray Serve waits for it
        self, request: LoadRequest, seats: int, history_bytes: int
    ) -> None:
        self._each = history_bytes // seats
        self._floor = Floor(request, seats=seats, history_bytes=history_bytes, open_world=open_here)
        self._ground = await asyncio.wrap_future(self._floor.ground)

    async def setting(self) -> Setting:
        ground = self._ground
        return Setting(ground.world.spec, dict(ground.world.identity), ground.picture, ground.build)

    async def attach(self, post: Any, box: str) -> AsyncIterator[Reply]:
        """One player's seat: does what the letters in `box` ask and answers, until the box is dropped or says bye."""
        desk = _Desk(HereStage(self._floor, self._each))
        working = asyncio.create_task(desk.work(post, box))
        yield 0, "done", None
        try:
            while (reply := await desk.replies.get()) is not None:
                yield reply
        finally:
            working.cancel()
            await desk.stage.close()


class _Desk:
    """Letters in, replies out."""

    def __init__(self, stage: HereStage) -> None:
        self.stage = stage
        self.replies: asyncio.Queue[Reply | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._checks: dict[int, asyncio.Task[None]] = {}

    async def work(self, post: Any, box: str) -> None:
        try:
            while letters := await post.take.remote(box):
                for letter in letters:
                    await self._obey(letter)
        finally:
            for check in self._checks.values():
                check.cancel()
            self.replies.put_nowait(None)

    async def _obey(self, letter: Letter) -> None:
        """Chunks are asked for and not waited for; a check may last longer than a game."""
        number, stage = letter.number, self.stage
        match letter.name, letter.arguments:
            case "make", (rows, due, delay):
                try:
                    made = stage.make(rows, due, delay, partial(self._from_thread, number, "drawn"))
                except RuntimeError:
                    return  # of a game that could not begin, which its player is told
                made.add_done_callback(partial(self._made, number))
            case "check", (script,):
                self._checks[number] = asyncio.create_task(
                    self._answer(number, stage.check(script, partial(self._progress, number)))
                )
            case "uncheck", (other,):
                if check := self._checks.pop(other, None):
                    check.cancel()
            case ("remake" | "go_back") as name, arguments:
                await self._answer(number, getattr(stage, name)(*arguments, partial(self._progress, number)))
            case ("begin" | "set_prompt" | "snapshot" | "restore" | "end") as name, arguments:
                await self._answer(number, getattr(stage, name)(*arguments))

    async def _answer(self, number: int, work: Awaitable[Any]) -> None:
        try:
            self._reply(number, "done", await work)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            self._reply(number, "failed", in_a_sentence(error, "playing"))

    def _made(self, number: int, made: asyncio.Future[None]) -> None:
        if made.cancelled():
            return
        error = made.exception()
        self._reply(number, "failed" if error else "done", in_a_sentence(error, "playing") if error else None)

    def _progress(self, number: int, *told: Any) -> None:
        self._from_thread(number, "told", told)

    def _from_thread(self, number: int, kind: str, value: Any) -> None:
        self._loop.call_soon_threadsafe(self._reply, number, kind, value)

    def _reply(self, number: int, kind: str, value: Any) -> None:
        self.replies.put_nowait((number, kind, value))
