"""One player's game on the server. It outlives connections: whoever comes back with its secret takes it up again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.play.engine.protocol import Begin, Opened, Step
from scope_play.play.engine.seat import in_a_sentence
from scope_play.recording.metadata import InputSetup
from scope_play.records import to_json
from scope_play.serve.archive import Archive
from scope_play.serve.film import Film
from scope_play.serve.hands import Hands
from scope_play.serve.keeper import Keeper
from scope_play.serve.stage import SNAPSHOTS, Drawn, Setting, Stage
from scope_play.wire import messages
from scope_play.wire.header import CODECS, Picture

IN_FLIGHT = 3
"""Chunks that may have been asked for and not yet been made."""

UNSHOWN = 8
"""Chunks that may have been asked for and not yet been shown."""

AHEAD = 1.05
"""How much faster than real time chunks may be asked for."""

PROMPTS = 4096


@dataclass(frozen=True)
class Held:
    """A chunk that is not known to be on screen; `picture`: what its pictures say beside their bytes."""

    frames: np.ndarray
    step: Step
    sampled: float
    picture: dict[str, Any]


class Game:
    """All methods are for the event loop's thread. `secret` takes the seat up again; `out` gets what is to be sent."""

    def __init__(self, secret: str, stage: Stage, setting: Setting, archive: Archive) -> None:
        self.secret = secret
        self.out: Callable[[Any], None] | None = None
        self.over = ""
        self.device = ""
        self.free = False
        self.input_at = self.gone_at = time.monotonic()
        self.turn = asyncio.Lock()
        self.playing = False
        self.stage = stage
        self.film = Film(setting.spec)
        self.keeper = Keeper(self.film, archive, secret, self.send)
        self._setting = setting
        self._loop = asyncio.get_running_loop()
        self._hands = Hands()
        self._mode = "exact"
        self._begun = False
        self._line = 0  # which line of play: a rewind begins another, and what is of an older one counts no more
        self._asked = self._made = self._shown = 0
        self._unshown: deque[tuple[int, Held]] = deque()
        self._prompts: list[str | None] = []
        self._earliest = 0.0
        stage.tell(lambda text: self.send(messages.Status("moving", text)))

    @property
    def begun(self) -> bool:
        return self._begun

    def send(self, message: Any) -> None:
        """To whoever watches, if anybody does."""
        if self.out:
            self.out(message)

    # Connections.

    def attach(self, hello: messages.Hello, codec: str) -> None:
        """Somebody watches from now on; `out` is set. Pictures that were not in hand follow the welcome."""
        self.device, self.free = hello.device[:80], hello.free
        for entry in hello.shown:
            match entry:
                case [int(n), int() | float() as t] if self._unshown and n == self._shown + 1:
                    self.shown(n, float(t))
        have = min(max(hello.have, self._shown), self._made) if hello.resume else 0
        setting = self._setting
        self.send(
            messages.Welcome(
                version=messages.VERSION,
                codec=codec,
                resume=self.secret,
                spec=to_json(setting.spec),
                model=setting.identity["model"],
                playing=self._begun,
                chunk=have,
                recording=self.keeper.recording,
                limits={"in_flight": IN_FLIGHT, "unshown": UNSHOWN, "asked": self._asked},
            )
        )
        self.film.use(codec)
        if self.keeper.tape:
            self.send(messages.Prompts(self._prompts))
            if not hello.have:
                self._still(self.keeper.tape.resting_frame, self._shown)
            for _, held in [item for item in self._unshown if item[0] > have]:
                self.film.run(partial(self.film.chunk, held.frames, held.picture, partial(self._post, self._line)))

    def look_anew(self, codec: str) -> None:
        """The next picture stands for itself, in another codec if one is named."""
        if codec and codec not in CODECS:
            raise ScopeError(f"codec {codec[:40]!r} is not known; choose one of {', '.join(CODECS)}")
        self.film.use(codec or self.film.codec)

    def detach(self) -> None:
        """Nobody watches any more: everything is let go, and the game stands still."""
        self.out = None
        self.gone_at = time.monotonic()
        self.pause()

    # What a player asks for.

    async def start(self, image: np.ndarray | None, message: messages.Start) -> None:
        self._hands.begin(message.mode)
        await self.leave("restarted")
        self._mode = message.mode
        begin = Begin(image, message.prompt or None, message.seed)
        setting = self._setting
        try:
            first = await self.stage.begin(begin)
        except (ScopeError, MemoryError, RuntimeError, OSError) as error:
            self.send(messages.Failed(in_a_sentence(error, "starting the game")))
            return
        self._begun = True
        opened = Opened(first, begin, setting.spec, setting.identity, setting.build)
        self.keeper.begin(opened)
        self._prompts = [begin.prompt]
        self._stand_at(0)
        told = messages.Opened(begin.seed, begin.prompt, dict(setting.identity), to_json(setting.build))
        self.film.run(partial(self._post, self._line, told))
        self.film.run(partial(self._post, self._line, messages.Prompts(self._prompts)))
        self._still(first, 0)

    def play(self, t: float) -> None:
        self._hands.start(t)
        self.playing = True

    def pause(self) -> None:
        self.playing = False
        self._hands.release()

    def take(self, events: list[Any]) -> None:
        self._hands.take(events)

    def go(self, n: int, now: float, rows: np.ndarray | None = None) -> None:
        """Have chunk `n` made of `rows`, float32 (frames_per_chunk, 10), or of what the hands did until `now` ms."""
        if not self._begun:
            return  # the player has not heard yet that the game is over
        if n != self._asked + 1 or n - self._made > IN_FLIGHT or n - self._shown > UNSHOWN:
            raise ScopeError(
                f"chunk {n} was asked for after {self._asked}, with {self._made} made and {self._shown} shown; "
                f"ask in order, for at most {IN_FLIGHT} at a time, and tell what is shown"
            )
        spec = self._setting.spec
        if rows is None:
            rows = self._hands.rows(now, spec.frames_per_chunk)
        else:
            self._hands.reach(now)
        self._asked = n
        asked, length = time.perf_counter(), spec.frames_per_chunk / spec.fps
        delay = 0.0
        if not self.free:
            self._earliest = max(self._earliest + length / AHEAD, asked - IN_FLIGHT * length)
            delay = max(0.0, self._earliest - asked)
        made = self.stage.make(rows, length, delay, partial(self._drawn, self._line, rows, now))
        made.add_done_callback(partial(self._settle, self._line))

    def shown(self, n: int, t: float) -> None:
        """Chunk `n` is on screen: only such chunks are recorded."""
        if n <= self._shown:
            return  # told again after a connection was lost
        if not self._unshown or self._unshown[0][0] != n:
            raise ScopeError(f"chunk {n} is not the one to be shown after {self._shown}; tell them in order")
        _, held = self._unshown.popleft()
        self._shown = n
        self.keeper.shown(held.frames, held.step, held.sampled, t / 1000)

    async def rewind(self, chunk: int) -> None:
        if not self._begun or not 0 <= chunk <= self._shown:
            raise ScopeError(f"one cannot go back to chunk {chunk} of {self._shown}; choose one that was shown")
        self.pause()

        def progress(done: int, total: int) -> None:
            text = f"Going back, {done} of {total}"
            self._loop.call_soon_threadsafe(self.send, messages.Status("rewinding", text))

        await self._move(self.stage.go_back(chunk, progress))

    async def prompt(self, text: str) -> None:
        if self._begun:
            if text not in self._prompts:
                if len(self._prompts) >= PROMPTS:
                    raise ScopeError(f"a game takes {PROMPTS} prompts; begin another")
                self._prompts = [*self._prompts, text]
                self.send(messages.Prompts(self._prompts))
            await self._try(self.stage.set_prompt(text), "prompt")

    async def snapshot(self, name: str) -> None:
        if self._begun:
            await self._try(self.stage.snapshot(name), f"snapshot {name}")

    async def restore(self, name: str) -> None:
        tape = self.keeper.tape
        if tape is None or name not in self.stage.moments:
            self.send(messages.Refused(f"there is no snapshot {name[:40]!r}; the last {SNAPSHOTS} are kept."))
            return
        if self.keeper.recording:
            self.send(messages.Refused("a recording can go back, but not to a snapshot; stop it first."))
            return

        async def restored() -> tuple[int, np.ndarray]:
            steps = await self.stage.restore(name)
            return len(steps), await asyncio.wrap_future(self.film.run(partial(tape.stand_after, steps)))

        await self._move(restored())

    async def record(self, on: bool) -> None:
        if on:
            await self.keeper.start(InputSetup(mode=self._mode, pad_name=self.device, pad_guid="remote"))
        else:
            self.keeper.stop("stopped by the player")

    async def leave(self, reason: str) -> None:
        """End the game, keep the seat."""
        self.pause()
        self._begun = False
        self._stand_at(0)
        self.keeper.end(reason)
        await self.stage.end()

    async def close(self, reason: str) -> None:
        """Give everything back; recordings are finished when it returns."""
        await self.leave(reason)
        await self.keeper.finish()
        await self.stage.close()
        self.film.close()

    # How it is done.

    def _drawn(self, line: int, rows: np.ndarray, now: float, drawn: Drawn) -> None:
        """In whatever thread."""
        prompt = self._prompts.index(drawn.prompt)
        picture = {"chunk": drawn.index, "prompt": prompt, "row_end": now}
        picture |= {name: getattr(drawn, name) for name in ("queued", "denoise", "decode", "work")}
        held = Held(drawn.frames, Step(rows, drawn.prompt), now / 1000, picture)
        self._loop.call_soon_threadsafe(self._hold, line, drawn.index, held)
        self.film.run(partial(self.film.chunk, held.frames, picture, partial(self._post, line)))

    def _hold(self, line: int, n: int, held: Held) -> None:
        if line == self._line:
            self._made = n
            self._unshown.append((n, held))

    async def _move(self, moved: Awaitable[tuple[int, np.ndarray]]) -> None:
        """Stand elsewhere in the game: after so many chunks, having last seen that frame."""
        try:
            chunk, frame = await moved
        except (ScopeError, MemoryError, RuntimeError, OSError) as error:
            await self._fail(in_a_sentence(error, "going back"))
            return
        self._stand_at(chunk)
        self.keeper.went_back(chunk, frame)
        self.film.run(partial(self._post, self._line, messages.Back(chunk)))
        self._still(frame, chunk)

    def _stand_at(self, chunk: int) -> None:
        self._line += 1
        self._asked = self._made = self._shown = chunk
        self._unshown.clear()

    def _settle(self, line: int, made: asyncio.Future[None]) -> None:
        """A chunk that could not be made ends the game."""
        if not made.cancelled() and (error := made.exception()) and line == self._line:
            self.keeper.spawn(self._fail(in_a_sentence(error, "playing")))

    async def _fail(self, text: str) -> None:
        await self.leave(text)
        self.send(messages.Failed(text))

    async def _try(self, job: Awaitable[None], what: str) -> None:
        try:
            await job
        except (ScopeError, MemoryError, RuntimeError, OSError) as error:
            self.send(messages.Refused(in_a_sentence(error, f"doing this ({what})")))
        else:
            self.send(messages.Done(what))

    def _still(self, frame: np.ndarray, chunk: int) -> None:
        line = self._line
        self.film.run(lambda: self._post(line, self.film.still(frame, chunk)))

    def _post(self, line: int, item: Picture | Any) -> None:
        """From the film's thread."""
        self._loop.call_soon_threadsafe(self._pass_on, line, item)

    def _pass_on(self, line: int, item: Any) -> None:
        if line == self._line:
            self.send(item)
