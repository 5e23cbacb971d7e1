"""Stages at models on other machines, which outlive them: a game whose machine is lost is made again on another from
its image, seed, prompts and rows, and goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.play.engine.protocol import Begin, Step
from scope_play.serve.cluster.line import Line, attach
from scope_play.serve.cluster.post import Letter
from scope_play.serve.stage import SNAPSHOTS, Checked, Drawn, Progress, Setting

if TYPE_CHECKING:
    from scope_play.recording.replay import Script

REMAKE = 0
"""The number of the letter that makes a game again; others have numbers from 1."""

CLOSE_SECONDS = 5.0


@dataclass
class _Asked:
    """A letter that is not answered. `heard` gets what comes before the answer; `drawn`: its chunk has come."""

    letter: Letter
    heard: Callable[..., None]
    answer: asyncio.Future[Any]
    drawn: bool = False


class FarStage:
    """See `Stage`. What was answered is kept as a game to be made again; what was not is asked again."""

    def __init__(self, line: Line, another: Callable[[], Any]) -> None:
        self._line, self._another = line, another
        self._told: Callable[[str], None] = lambda text: None
        self._number = REMAKE
        self._asked: dict[int, _Asked] = {}
        self._begin: Begin | None = None
        self._steps: list[Step] = []
        self._prompt: str | None = None
        self._last: np.ndarray | None = None
        self._moments: dict[str, str | None] = {}  # and the prompt that held
        self._problem = ""
        self._closed = False
        self._away = False
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @property
    def moments(self) -> Collection[str]:
        return self._moments.keys()

    def tell(self, told: Callable[[str], None]) -> None:
        self._told = told

    async def begin(self, begin: Begin) -> np.ndarray:
        self._begin, self._problem = None, ""
        frame: np.ndarray = await self._ask("begin", begin)
        self._begin, self._steps, self._prompt, self._last, self._moments = begin, [], begin.prompt, frame, {}
        return frame

    def make(self, rows: np.ndarray, due: float, delay: float, out: Callable[[Drawn], None]) -> asyncio.Future[None]:
        def heard(drawn: Drawn) -> None:
            self._steps.append(Step(rows, drawn.prompt))
            self._last = drawn.frames[-1]
            out(drawn)

        return self._ask("make", rows, due, delay, heard=heard)

    async def go_back(self, chunk: int, progress: Progress) -> tuple[int, np.ndarray]:
        self._forget()
        chunk, self._last = await self._ask("go_back", chunk, heard=progress)
        del self._steps[chunk:]
        self._prompt = self._steps[-1].prompt if self._steps else self._begin.prompt if self._begin else None
        return chunk, self._last

    async def set_prompt(self, text: str) -> None:
        await self._ask("set_prompt", text)
        self._prompt = text

    async def snapshot(self, name: str) -> None:
        await self._ask("snapshot", name)
        if len(self._moments) >= SNAPSHOTS and name not in self._moments:
            del self._moments[next(iter(self._moments))]
        self._moments[name] = self._prompt

    async def restore(self, name: str) -> list[Step]:
        self._steps = await self._ask("restore", name)
        self._prompt, self._last = self._moments[name], None
        return list(self._steps)

    async def end(self) -> None:
        self._forget()
        if self._begin is not None:
            self._begin, self._steps, self._moments = None, [], {}
            self._ask("end").add_done_callback(_nobody_waits)

    async def check(self, script: Script, tell: Checked) -> None:
        asked = self._ask("check", script, heard=tell)
        number = self._number
        try:
            await asked
        except asyncio.CancelledError:
            self._asked.pop(number, None)
            self._line.send(Letter(number, "uncheck", (number,)))
            raise

    async def close(self) -> None:
        self._closed = True
        self._forget()
        self._line.close()
        await asyncio.wait((self._listening,), timeout=0.0 if self._away else CLOSE_SECONDS)
        if not self._listening.done():
            self._listening.cancel()
            self._line.give_up()

    def _ask(self, name: str, *arguments: Any, heard: Callable[..., None] = lambda *told: None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._problem:
            answer.set_exception(ScopeError(self._problem))
            return answer
        self._number += 1
        asked = self._asked[self._number] = _Asked(Letter(self._number, name, arguments), heard, answer)
        if not self._away:
            self._line.send(asked.letter)
        return answer

    def _forget(self) -> None:
        """Chunks that were asked for are not wanted any more."""
        for number, asked in list(self._asked.items()):
            if asked.letter.name == "make":
                del self._asked[number]
                asked.answer.cancel()

    async def _listen(self) -> None:
        while not self._closed:
            try:
                async for number, kind, value in self._line.replies():
                    self._hear(number, kind, value)
            except Exception as error:  # noqa: BLE001 - a replica is lost in many ways
                logging.getLogger("ray.serve").warning("A replica was lost (%s).", type(error).__name__)
            if not self._closed:
                await self._go_elsewhere()

    def _hear(self, number: int, kind: str, value: Any) -> None:
        if number == REMAKE:
            self._remade(kind, value)
            return
        asked = self._asked.get(number)
        if asked is None:
            return  # forgotten
        if kind == "told":
            asked.heard(*value)
        elif kind == "drawn":
            asked.drawn = True
            asked.heard(value)
        else:
            del self._asked[number]
            if asked.answer.done():
                return
            if kind == "done":
                asked.answer.set_result(value)
            else:
                asked.answer.set_exception(ScopeError(value))

    async def _go_elsewhere(self) -> None:
        """Take a seat at another machine and have there what was here."""
        self._away = True
        self._moments = {}
        self._line.close()
        self._told("The machine that made this game was lost; it goes on at another as soon as there is a seat.")
        self._line = await self._another()
        self._away = False
        if self._begin:
            self._line.send(Letter(REMAKE, "remake", (self._begin, self._steps, self._prompt)))
        for number, asked in list(self._asked.items()):
            if asked.drawn:
                del self._asked[number]
                asked.answer.set_result(None)
            else:
                self._line.send(asked.letter)

    def _remade(self, kind: str, value: Any) -> None:
        if kind == "told":
            self._told("Making the game again, {} of {}".format(*value))
        elif kind == "failed":
            self._fail(value)
        elif self._last is not None and not np.array_equal(value, self._last):
            self._fail("The machine that made this game was lost, and another does not draw it alike; begin another.")

    def _fail(self, text: str) -> None:
        self._problem = text
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(ScopeError(text))
        self._asked.clear()


def _nobody_waits(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


class FarChairs:
    """See `Chairs`. `seats`: the handle of the deployment of `Seats`; `post`: that of a `Post`."""

    at_once = 0.1

    def __init__(self, seats: Any, post: Any) -> None:
        self._seats, self._post = seats, post
        self._setting = asyncio.get_running_loop().create_task(self._ask_setting())

    @property
    def ready(self) -> bool:
        return self._setting.done()

    async def setting(self) -> Setting:
        return await asyncio.shield(self._setting)

    async def take(self) -> FarStage:
        return FarStage(await self._attach(), self._attach)

    async def _attach(self) -> Line:
        return await attach(self._seats, self._post)

    async def _ask_setting(self) -> Setting:
        found: Setting = await self._seats.setting.remote()
        return found
