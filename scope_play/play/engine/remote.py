"""An engine elsewhere: what `scope-play serve` runs, behind the same methods as the one in this process.

Rows are sampled here, with the clock of the window, and sent with the asking; frames come without loss, so a recording
made here replays bit for bit. While the line is away play stands still, and goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.images import read_image
from scope_play.play.engine.protocol import (
    Begin,
    Clock,
    Command,
    Event,
    Failed,
    GoBack,
    Interrupted,
    Leave,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    Refused,
    SetPrompt,
    SetStream,
    Status,
    TakeRows,
    WentBack,
)
from scope_play.play.pacing import NOTHING_FLYING, Flying
from scope_play.recording.metadata import BuildSetup
from scope_play.records import read_record
from scope_play.session.interfaces import WorldSpec
from scope_play.wire import messages
from scope_play.wire.client import Arrived, Connection, Ended, Lost, Still, read_address
from scope_play.wire.header import pack_rows
from scope_play.wire.world import as_file

FARTHEST_AHEAD = 3
"""Chunks that may be asked for and not yet taken."""

STANDSTILL = 1.0
"""Seconds, beside three times what answers took of late, after which the line is taken to stand still."""


class RemoteEngine:
    """See `EngineLike`. `play` samples when it is called at or after the time it was given."""

    def __init__(
        self, url: str, take_rows: TakeRows, *, clock: Clock = time.perf_counter, history_bytes: int = 0
    ) -> None:
        self._url = url
        self._base = read_address(url).base
        self._take_rows = take_rows
        self._clock = clock
        self._changed = threading.Condition()
        self._outbox: deque[Event] = deque()
        self._status = Status(Phase.EMPTY, "Not connected.", clock())
        self._closed = False
        self._connection: Connection | None = None
        self._tries = 0
        self._spec: WorldSpec | None = None
        self._begin = Begin()
        self._awaited: messages.Opened | messages.Back | None = None  # its picture follows
        self._moving = False  # until the server has heard of a new game or a rewind, what comes is of the old one
        self._playing = False
        self._asked = 0
        self._rows: dict[int, tuple[float, np.ndarray]] = {}
        self._prompts: list[str | None] = []
        self._wished: deque[messages.Prompt] = deque()
        self._took: deque[float] = deque(maxlen=8)
        self._still = False
        self._move: messages.Start | messages.Rewind | None = None  # not yet answered

    @property
    def status(self) -> Status:
        return self._status

    @property
    def alive(self) -> bool:
        return not self._closed

    @property
    def flying(self) -> Flying:
        with self._changed:
            if not self._rows or self._spec is None:
                return NOTHING_FLYING
            return Flying(len(self._rows) * self._spec.frames_per_chunk, next(iter(self._rows.values()))[0])

    def post(self, command: Command) -> None:
        with self._changed:
            match command:
                case Load():
                    self._connect()
                case Begin():
                    self._start(command)
                case SetPrompt(prompt):
                    self._wished.append(messages.Prompt(prompt))
                    self._send(self._wished[-1])
                case SetStream():
                    self._put(Refused("how the model is run is the server's choice; it was left as it is"))
                case GoBack(chunk):
                    self._stop_asking()
                    self._say(Phase.REWINDING, "Going back")
                    self._move = messages.Rewind(chunk)
                    self._send(self._move)
                case Leave():
                    self._stop_asking()
                    self._say(Phase.READY, "Ready.")
                    self._send(messages.Leave())

    def play(self, begin_at: float, *, ahead: bool = False) -> None:
        with self._changed:
            now = self._clock()
            connection, spec = self._connection, self._spec
            self._watch(now)
            busy = self._moving or len(self._rows) >= FARTHEST_AHEAD or self._status.phase is Phase.LOADING
            if connection is None or spec is None or busy or now < begin_at:
                return
            if not self._playing:
                self._playing = True
                self._say(Phase.PLAYING, "Playing.")
                connection.send(messages.Play(1000 * now))
            rows = self._take_rows(now, spec.frames_per_chunk)
            self._asked += 1
            self._rows[self._asked] = (now, rows)
            connection.send(pack_rows(self._asked, 1000 * now, rows))

    def _watch(self, now: float) -> None:
        oldest = next(iter(self._rows.values()), (now, None))[0]
        if not self._still and self._took and now - oldest > STANDSTILL + 3 * max(self._took):
            self._still = True
            self._interrupt("The line stands still; go on when you like.")

    def pause(self) -> None:
        with self._changed:
            if self._playing:
                self._playing = False
                self._say(Phase.PAUSED, "Paused.")
                self._send(messages.Pause())

    def take(self) -> Event | None:
        with self._changed:
            event = self._outbox.popleft() if self._outbox else None
            if isinstance(event, Made) and self._connection:
                now = 1000 * self._clock()
                self._connection.progress.show(event.index, now)
                self._connection.send(messages.Shown(event.index, now))
            return event

    def wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._outbox) or self._closed, seconds) and bool(self._outbox)

    def close(self, seconds: float = 5.0) -> bool:
        with self._changed:
            self._closed = True
            self._say(Phase.STOPPED, "The connection was closed.")
            connection, self._connection = self._connection, None
        if connection:
            connection.send(messages.Leave())
            connection.close()
        return True

    # Commands, with the lock held.

    def _connect(self) -> None:
        self._stop_asking()
        old, self._connection = self._connection, None
        if old:
            threading.Thread(target=old.close, daemon=True).start()
        self._spec = None
        self._say(Phase.LOADING, f"Connecting to {self._base}")
        self._tries = number = self._tries + 1
        self._connection = Connection(self._url, lambda item: self._hear(number, item), device="window")

    def _start(self, begin: Begin) -> None:
        """Reading and sending the picture may take a moment, in a thread of its own."""
        self._stop_asking()
        self._begin = begin
        connection = self._connection

        def send() -> None:
            try:
                if connection is None:
                    raise ScopeError("there is no connection; connect first.")
                name = None if begin.image is None else connection.upload(as_file(begin.image))
            except ScopeError as error:
                with self._changed:
                    self._moving = False
                    self._put(Failed(str(error), world_lost=False))
            else:
                with self._changed:
                    self._move = messages.Start(name, begin.prompt, begin.seed)
                    connection.send(self._move)

        self._moving = True
        threading.Thread(target=send, name="start", daemon=True).start()

    def _stop_asking(self) -> None:
        self._playing, self._moving, self._awaited, self._move = False, True, None, None
        self._rows.clear()
        self._wished.clear()
        self._outbox = deque(event for event in self._outbox if not isinstance(event, Made))

    def _send(self, message: Any) -> None:
        if self._connection:
            self._connection.send(message)

    # What the server says, in the connection's thread.

    def _hear(self, number: int, item: Any) -> None:
        with self._changed:
            connection = self._connection
        if connection is None:
            return
        picture = self._own_picture(connection) if isinstance(item, messages.Welcome) else None
        with self._changed:
            if number != self._tries:
                return  # of a connection that has been given up
            match item:
                case messages.Welcome():
                    self._welcome(item, picture)
                case messages.Queue(place):
                    self._say(Phase.LOADING, f"All seats are taken; your place is {place}")
                case messages.Status(phase, text):
                    if phase == "idle":
                        self._interrupt(text)
                    elif phase == "draining":
                        self._put(Refused(text))
                    else:
                        self._say(self._status.phase, text)
                case messages.Opened() | messages.Back():
                    self._awaited = item
                case Still(frame, chunk):
                    self._stand(connection, frame, chunk)
                case Arrived():
                    self._arrived(item)
                case messages.Prompts(texts):
                    self._prompts = texts
                case messages.Done("prompt") if self._wished:
                    self._wished.popleft()
                case messages.Refused(text):
                    if self._wished:
                        self._wished.popleft()
                    self._put(Refused(text))
                case messages.Failed(text):
                    self._stop_asking()
                    self._say(Phase.READY, text)
                    self._put(Failed(text, world_lost=False))
                case Lost(text):
                    self._interrupt(text)
                    self._say(Phase.LOADING, text)
                case Ended(text):
                    self._stop_asking()
                    self._spec = None
                    self._say(Phase.FAILED, text)
                    self._put(Failed(text, world_lost=True))

    def _welcome(self, welcome: messages.Welcome, picture: np.ndarray | None) -> None:
        known = self._spec is not None
        self._spec = read_record(WorldSpec, welcome.spec, "the server's welcome", strict=False)
        if known and (welcome.playing or self._move):
            self._asked = int(welcome.limits.get("asked", welcome.chunk))
            self._rows = {n: asked for n, asked in self._rows.items() if n <= self._asked}
            self._say(Phase.REWINDING if self._move else Phase.PAUSED, "Paused.")
            for lost in (self._move, *self._wished):
                if lost:
                    self._send(lost)
            self._put(Interrupted("The connection stands again."))
            return
        self._say(Phase.READY, f"{welcome.model} is ready.")
        if known:
            self._put(Failed("The server no longer has this game; begin another.", world_lost=False))
        else:
            self._put(Loaded(self._spec, picture))

    def _own_picture(self, connection: Connection) -> np.ndarray | None:
        try:
            return read_image(connection.fetch("/scenes/0"))
        except ScopeError:
            return None  # the model has none

    def _stand(self, connection: Connection, frame: np.ndarray, chunk: int) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is None or self._spec is None:
            return
        connection.progress.stand_at(chunk)
        self._asked, self._moving, self._move = chunk, False, None
        self._say(Phase.PAUSED, "Ready to play.")
        if isinstance(awaited, messages.Back):
            self._put(WentBack(chunk, frame))
        else:
            build = read_record(BuildSetup, awaited.build, "the server's answer", strict=False)
            begin = replace(self._begin, image=frame if self._begin.image is not None else None)
            self._put(Opened(frame, begin, self._spec, awaited.identity, build))

    def _arrived(self, item: Arrived) -> None:
        n = item.picture.chunk
        if self._moving or n not in self._rows:
            return
        sampled, rows = self._rows.pop(n)
        ready, picture = self._clock(), item.picture
        prompt = self._prompts[picture.prompt] if picture.prompt < len(self._prompts) else None
        timings = {"denoise": picture.denoise / 1000, "decode": picture.decode / 1000, "queue": picture.queued / 1000}
        answer = ready - sampled - timings["queue"]
        if not self._still:
            self._took.append(ready - sampled)
        self._still = bool(self._rows) and self._still
        self._put(
            Made(n, item.frames, rows, prompt, timings, sampled, ready, picture.work / 1000, answer=max(answer, 0.0))
        )

    def _interrupt(self, text: str) -> None:
        if self._status.phase in (Phase.PLAYING, Phase.PAUSED, Phase.REWINDING):
            self._playing = False
            self._say(Phase.PAUSED, text)
            self._put(Interrupted(text))

    def _say(self, phase: Phase, text: str) -> None:
        since = self._status.since if phase is self._status.phase else self._clock()
        self._status = Status(phase, text, since, self._spec)
        self._changed.notify_all()

    def _put(self, event: Event) -> None:
        self._outbox.append(event)
        self._changed.notify_all()


def connected(url: str) -> Any:
    """A `MakeEngine` for the server at `url`. Raises ScopeError unless that is an address with a token."""
    read_address(url)

    def make(take_rows: TakeRows, *, clock: Clock, history_bytes: int) -> RemoteEngine:
        return RemoteEngine(url, take_rows, clock=clock, history_bytes=history_bytes)

    return make
