"""One connection: a strict greeting, then messages to the game, and the game's words and pictures back.

Whatever a client sends or fails to read costs this connection and no other; its game is held for it to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from scope_play.errors import ScopeError
from scope_play.serve.check import Checks
from scope_play.serve.game import Game
from scope_play.serve.guard import same_token
from scope_play.serve.lobby import Lobby, TurnedAway
from scope_play.serve.pictures import Pictures
from scope_play.wire import messages
from scope_play.wire.header import CODECS, Picture, read_rows

SEND_SECONDS = 20.0
"""A client that has read nothing for so long is gone."""

MOST_BYTES = 16 << 20
"""Waiting to be sent: seconds of the coarsest codec. Whoever lets it come to more does not read."""

MESSAGES_A_SECOND = 600.0
"""Twice what a page sends that looks at its pad every 4 ms."""


class Closed(Exception):
    """Close the connection with `code`, having told why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Outgoing:
    """What waits to be sent, and the task that sends it."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._waiting: deque[str | bytes] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._broken = ""

    def send(self, message: Any) -> None:
        data = message.pack() if isinstance(message, Picture) else messages.write(message)
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            self._broken = "nothing of what was sent has been read"
        else:
            self._waiting.append(data)
        self._more.set()

    async def run(self) -> None:
        """Until the connection breaks."""
        while not self._broken:
            await self._more.wait()
            self._more.clear()
            await self.flush()
        raise Closed(messages.BAD, self._broken)

    async def flush(self) -> None:
        while self._waiting and not self._broken:
            data = self._waiting.popleft()
            self._bytes -= len(data)
            send = self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data)
            try:
                await asyncio.wait_for(send, SEND_SECONDS)
            except asyncio.TimeoutError:
                self._broken = f"nothing has been read for {SEND_SECONDS:.0f} seconds"


class Pulse:
    """A bucket that holds two seconds of messages."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left, self._at = 2 * rate, time.monotonic()

    def count(self) -> None:
        """Raises ScopeError once there are too many."""
        now = time.monotonic()
        self._left = min(2 * self._rate, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        if self._left < 0:
            raise ScopeError(f"more than {self._rate:.0f} messages a second came; send events together")


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended: `asyncio.wait_for` swallows a cancellation that comes with its result."""
    while not all(task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # both may fail of one lost connection, and one of them is reported


class Visit:
    def __init__(self, socket: WebSocket, lobby: Lobby, pictures: Pictures, token: str) -> None:
        self._socket, self._lobby, self._pictures, self._token = socket, lobby, pictures, token
        self._out = Outgoing(socket)
        self._game: Game | None = None
        self._pulse = Pulse(MESSAGES_A_SECOND)
        self._checks = Checks(lobby.archive, self._out.send)

    async def run(self) -> None:
        """From the opened socket to its end."""
        await self._socket.accept()
        sending = asyncio.create_task(self._out.run())
        reading = asyncio.create_task(self._read())
        code, text = 1000, ""
        try:
            done, _ = await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (Closed, TurnedAway) as closed:
            code, text = closed.code, str(closed)
        except ScopeError as error:
            code, text = messages.BAD, str(error)
        except (WebSocketDisconnect, RuntimeError, OSError):  # RuntimeError: starlette's word for a closed socket
            code = 0
        finally:
            await _end(sending, reading)
            self._checks.stop()
            if self._game and self._game.out == self._out.send:
                self._game.detach()
        if code:
            with contextlib.suppress(Closed, WebSocketDisconnect, RuntimeError, OSError):
                if text:
                    self._out.send(messages.Error(code, text))
                    await self._out.flush()
                await asyncio.wait_for(self._socket.close(code), SEND_SECONDS)

    async def _read(self) -> None:
        hello = await self._hello()
        codec = next((codec for codec in hello.codecs if codec in CODECS), None)
        if codec is None:
            raise ScopeError(f"none of the codecs {hello.codecs[:8]} is known; offer one of {', '.join(CODECS)}")
        game = self._game = await self._take_seat(hello)
        async with game.turn:
            if game.out:
                game.detach()
            game.out = self._out.send
            game.attach(hello, codec)
        while True:
            self._pulse.count()
            data = await self._socket.receive()
            if data["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(data.get("code", 1005))
            if game.over or game.out != self._out.send:
                raise Closed(messages.AGAIN, game.over or "The game was taken up from another window.")
            # Shielded: what a message has begun is ended also if the connection is lost meanwhile.
            await asyncio.shield(asyncio.create_task(self._handle(game, data)))

    async def _hello(self) -> messages.Hello:
        try:
            text = await asyncio.wait_for(self._socket.receive_text(), self._lobby.config.hello)
        except asyncio.TimeoutError:
            raise Closed(messages.UNKNOWN, "no hello came; send it first") from None
        except KeyError:
            raise ScopeError("the first message is no text; send hello first") from None
        hello = messages.read(text, {"hello": messages.Hello})
        if not same_token(hello.token, self._token):
            raise Closed(messages.UNKNOWN, "The token is not the server's; open the address that it printed.")
        if hello.version != messages.VERSION:
            raise Closed(
                messages.OTHER_VERSION,
                f"The server speaks version {messages.VERSION} and the player {hello.version}; install the same app.",
            )
        return hello

    async def _take_seat(self, hello: messages.Hello) -> Game:
        if hello.resume and (held := self._lobby.resume(hello.resume)):
            return held
        if not self._lobby.ready:
            self._out.send(messages.Status("loading", "The server loads its model."))
        gone = asyncio.create_task(self._socket.receive())
        seat = asyncio.create_task(self._lobby.admit(lambda place: self._out.send(messages.Queue(place))))
        try:
            await asyncio.wait((gone, seat), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not seat.done():
                if gone.result()["type"] != "websocket.disconnect":
                    raise ScopeError("a message came before the welcome; wait for it")
                raise WebSocketDisconnect
            return seat.result()
        finally:
            await _end(gone, seat)

    async def _handle(self, game: Game, data: MutableMapping[str, Any]) -> None:
        async with game.turn:
            if (text := data.get("text")) is not None:
                await self._obey(game, messages.read(text, messages.TO_SERVER))
            else:
                spec = (await self._lobby.setting()).spec
                n, now, rows = read_rows(data.get("bytes") or b"", spec.frames_per_chunk)
                game.input_at = time.monotonic()
                game.go(n, now, rows)

    async def _obey(self, game: Game, message: Any) -> None:
        if not isinstance(message, (messages.Ping, messages.Go, messages.Shown)):
            game.input_at = time.monotonic()
        match message:
            case messages.In(events):
                game.take(events)
            case messages.Go(n, now):
                game.go(n, now)
            case messages.Shown(n, t):
                game.shown(n, t)
            case messages.Ping(c, lag):
                game.film.strain(lag / 1000)
                self._out.send(messages.Pong(c))
            case messages.Play(t):
                game.play(t)
            case messages.Pause():
                game.pause()
            case messages.Start():
                await self._start(game, message)
            case messages.Rewind(chunk):
                await game.rewind(chunk)
            case messages.Prompt(text):
                await game.prompt(text)
            case messages.Snapshot(name):
                await game.snapshot(name)
            case messages.Restore(name):
                await game.restore(name)
            case messages.Record(on):
                await game.record(on)
            case messages.Key(codec):
                game.look_anew(codec)
            case messages.Check(clip):
                self._checks.start(clip, game.stage)
            case messages.Leave():
                await game.leave("left the game")
            case messages.Hello():
                raise ScopeError("a second hello came; open a connection for each")

    async def _start(self, game: Game, message: messages.Start) -> None:
        spec = (await self._lobby.setting()).spec
        image: np.ndarray | None = None
        if message.image is not None:
            try:
                image = await asyncio.to_thread(self._pictures.fitted(message.image, spec.height, spec.width))
            except ScopeError as error:
                game.send(messages.Failed(str(error)))
                return
        await game.start(image, message)
