"""One game's recording on the server: begun and ended in its film's thread, finished in one that may take its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.play.engine.protocol import Opened, Step
from scope_play.recording.metadata import InputSetup
from scope_play.serve.archive import Archive, Tape
from scope_play.serve.film import Film
from scope_play.wire import messages

WEIGH_EVERY = 100
"""Chunks between two looks at what a recording takes of the disk."""


class Keeper:
    """`send` gets what the player should know. All methods are for the event loop's thread."""

    def __init__(self, film: Film, archive: Archive, owner: str, send: Callable[[Any], None]) -> None:
        self.recording = False
        self.tape: Tape | None = None
        self._film, self._archive, self._owner, self._send = film, archive, owner, send
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunks = 0

    def begin(self, opened: Opened) -> None:
        self.tape = Tape(opened, opened.begin.prompt, opened.first_frame)

    def end(self, reason: str) -> None:
        self.stop(reason)
        self.tape = None

    async def start(self, inputs: InputSetup) -> None:
        """Record from the picture on screen on."""
        if self.tape is None:
            self._send(messages.Refused("there is nothing to record yet; start a game first."))
        elif not self.recording:
            try:
                self._archive.require_room(self._owner)
                await asyncio.wrap_future(self._film.run(partial(self.tape.start, self._archive.root, inputs)))
            except ScopeError as error:
                self._send(messages.Refused(str(error)))
                return
            self.recording = True
            self._send(messages.Recording("recording", True))

    def stop(self, reason: str) -> None:
        if self.recording and self.tape:
            self.recording = False
            self.spawn(self._save(self.tape, reason))

    def shown(self, frames: np.ndarray, step: Step, sampled: float, shown: float) -> None:
        if self.tape:
            self._film.run(partial(self.tape.shown, frames, step, sampled, shown, self._complain))
            self._chunks += 1
            if self.recording and self._chunks % WEIGH_EVERY == 0:
                self.spawn(self._weigh(self.tape))

    def went_back(self, chunk: int, frame: np.ndarray) -> None:
        if self.tape:
            self._film.run(partial(self.tape.went_back, chunk, frame))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that `finish` waits for."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Returns once everything is on the disk."""
        if self._tasks:
            await asyncio.gather(*self._tasks)

    async def _save(self, tape: Tape, reason: str) -> None:
        recorder = await asyncio.wrap_future(self._film.run(tape.let_go))
        if recorder is None:
            return
        path = await asyncio.to_thread(recorder.close, reason)
        status = recorder.status
        if path is None:
            self._send(messages.Recording("failed", self.recording, text=status.text))
        else:
            name = self._archive.add(path, self._owner, status.frames)
            self._send(messages.Recording("saved", self.recording, name, status.text))

    async def _weigh(self, tape: Tape) -> None:
        """A recording ends that takes more than its seat may have."""
        try:
            written = await asyncio.wrap_future(self._film.run(tape.written))
            self._archive.require_room(self._owner, written)
        except ScopeError as error:
            self._send(messages.Refused(str(error)))
            self.stop("the seat's share of the disk was full")

    def _complain(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._send, messages.Recording("degraded", True, text=text))
