"""A player's end of the line: a connection in threads of its own that comes back by itself, and pictures put together.

    connection = Connection(url, heard=queue.put)
    connection.send(messages.Start())

`heard` is called in the connection's thread with every message, with `Still` and `Arrived` for pictures, with `Lost`
when the connection breaks and is tried again, and with `Ended` when there will be no more.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from scope_play.errors import ScopeError
from scope_play.records import read_record
from scope_play.session.interfaces import WorldSpec
from scope_play.wire import messages
from scope_play.wire.header import FRAME, Picture, read_picture
from scope_play.wire.video import make_decoder

PATIENCE = 110.0
"""Seconds for which a broken connection is tried again: the server holds the seat a little longer."""

FIRST_TRIES = 3.0
CONNECT_SECONDS = 10.0
PING_EVERY = 0.5

LEAVE_SECONDS = 1.0
"""A proxy may drop what it has not passed on when a connection is closed."""


@dataclass(frozen=True)
class Address:
    """Where a server is, and its token."""

    base: str
    token: str

    @property
    def socket(self) -> str:
        return "ws" + self.base.removeprefix("http") + "/ws"


def read_address(url: str) -> Address:
    """`http://host:port/#token`, as the server prints it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.fragment:
        raise ScopeError(f"{url.partition('#')[0]!r} is no server's address; give all it printed, #token included.")
    return Address(f"{parts.scheme}://{parts.netloc}", parts.fragment)


@dataclass(frozen=True)
class Still:
    """The game stands on this frame, uint8 (H, W, 3), the last of `chunk`."""

    frame: np.ndarray
    chunk: int


@dataclass(frozen=True)
class Arrived:
    """A whole chunk: frames uint8 (n, H, W, 3), what its first picture says, and the seconds encoding took."""

    frames: np.ndarray
    picture: Picture
    encode: float


@dataclass(frozen=True)
class Lost:
    """The connection broke; it is tried again."""

    text: str


@dataclass(frozen=True)
class Ended:
    """There is no connection any more, and why."""

    text: str


@dataclass
class Progress:
    """What a player has in hand, told when a connection is taken up again."""

    have: int = 0
    shown: list[list[float]] = field(default_factory=list)

    def show(self, n: int, t: float) -> None:
        self.shown = [*self.shown[-7:], [n, t]]

    def stand_at(self, chunk: int) -> None:
        self.have, self.shown = chunk, []


class Connection:
    """See the module's text. `send` and `close` may be called from any thread."""

    def __init__(
        self,
        url: str,
        heard: Callable[[Any], None],
        *,
        codecs: tuple[str, ...] = ("lossless",),
        device: str = "",
        free: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self.address = read_address(url)
        self.progress = Progress()
        self.round_trip = 0.0
        self._heard, self._codecs, self._device, self._free = heard, codecs, device, free
        self._patience = patience
        self._resume: str | None = None
        self._closing = threading.Event()
        self._all_read = threading.Event()
        self._last_ping = 0.0
        self._socket: Any = None
        self._out: SimpleQueue[tuple[Any, str | bytes] | None] = SimpleQueue()
        self._parts: list[Picture] = []
        self._frames: list[np.ndarray] = []
        self._spec: WorldSpec | None = None
        self._decoder: Any = None
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("link", self._run), ("link out", self._send_all), ("link pulse", self._pulse))
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: Any) -> None:
        """A message, or bytes. What cannot be sent is dropped: whoever comes back is told what counts."""
        socket = self._socket
        if socket is not None:
            self._out.put((socket, message if isinstance(message, bytes) else messages.write(message)))

    def upload(self, data: bytes) -> str:
        """Send a picture file; its id. Raises ScopeError with the server's sentence."""
        return str(json.loads(self.fetch("/pictures", data))["id"])

    def fetch(self, path: str, data: bytes | None = None) -> bytes:
        """What the server has at `path`, with `data` posted. Raises ScopeError with the server's sentence."""
        headers = {"authorization": f"Bearer {self.address.token}", "content-type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.address.base}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ScopeError(error.read(1000).decode("utf-8", "replace")) from error
        except (OSError, ValueError) as error:
            raise ScopeError(f"{self.address.base} does not answer ({error}); try again.") from error

    def close(self) -> None:
        """What was sent before is read first, if the server still reads."""
        if self._socket is not None and threading.current_thread() not in self._threads:
            self._last_ping = 1000 * time.monotonic()
            self.send(messages.Ping(self._last_ping))
            self._all_read.wait(LEAVE_SECONDS)
        self._closing.set()
        self._out.put(None)
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(CONNECT_SECONDS)

    # Below: threads.

    def _run(self) -> None:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
        from websockets.sync.client import connect

        lost_at, wait = time.monotonic(), 0.05
        ended = ""
        while not self._closing.is_set():
            try:
                with connect(
                    self.address.socket,
                    open_timeout=CONNECT_SECONDS,
                    close_timeout=1,
                    max_size=64 << 20,
                    compression=None,
                    proxy=None,
                ) as socket:
                    self._hello(socket)
                    for data in socket:
                        if self._take(socket, data):
                            lost_at, wait = 0.0, 0.05
                        if self._closing.is_set():
                            break
                    why = "the server closed the connection"
            except ConnectionClosed as error:
                why = (error.rcvd.reason if error.rcvd else "") or "the connection broke"
            except (OSError, InvalidHandshake, InvalidURI, TimeoutError, ssl.SSLError) as error:
                why = f"{self.address.base} does not answer ({error})"
            except _Told as told:
                ended = str(told)
                break
            except ScopeError as error:
                ended = str(error)
                break
            self._socket = None
            if self._closing.is_set():
                break
            if not lost_at:
                lost_at = time.monotonic()
                self._heard(Lost(f"The connection was lost ({why}); trying again."))
            limit = self._patience if self._resume else min(FIRST_TRIES, self._patience)
            if time.monotonic() - lost_at > limit:
                ended = f"No connection: {why}; check the address, and that the tunnel stands."
                break
            self._closing.wait(wait)
            wait = min(2 * wait, 2.0)
        self._socket = None
        self._heard(Ended(ended or "The connection was closed."))

    def _hello(self, socket: Any) -> None:
        progress = self.progress
        hello = messages.Hello(
            messages.VERSION,
            self.address.token,
            self._codecs,
            self._resume,
            progress.have,
            progress.shown,
            self._device,
            self._free,
        )
        socket.send(messages.write(hello))

    def _take(self, socket: Any, data: str | bytes) -> bool:
        """Whether it was the welcome."""
        if isinstance(data, bytes):
            self._picture(read_picture(data))
            return False
        message = messages.read(data, messages.TO_PLAYER)
        match message:
            case messages.Welcome():
                known = self._resume is None or self._resume == message.resume
                self._resume = message.resume
                self._spec = read_record(WorldSpec, message.spec, "the server's welcome", strict=False)
                self._decoder = make_decoder(message.codec, self._spec.height, self._spec.width)
                self._parts, self._frames = [], []
                if not known:
                    self.progress.stand_at(0)
                self._socket = socket
            case messages.Opened() | messages.Back():
                self._parts, self._frames = [], []
            case messages.Error(_, text):
                raise _Told(text)
            case messages.Pong(c):
                self.round_trip = time.monotonic() - c / 1000
                if c == self._last_ping:
                    self._all_read.set()
        self._heard(message)
        return isinstance(message, messages.Welcome)

    def _picture(self, picture: Picture) -> None:
        frame = self._decoder.decode(picture.payload)
        if picture.kind != FRAME:
            self.progress.have = picture.chunk
            self._heard(Still(frame, picture.chunk))
            return
        if picture.part == 0:
            self._parts, self._frames = [], []
        self._parts.append(picture)
        self._frames.append(frame)
        if self._spec and len(self._frames) == self._spec.frames_per_chunk:
            self.progress.have = picture.chunk
            encode = sum(part.encode for part in self._parts) / 1000
            self._heard(Arrived(np.stack(self._frames), self._parts[0], encode))

    def _send_all(self) -> None:
        from websockets.exceptions import ConnectionClosed

        while item := self._out.get():
            socket, data = item
            try:
                socket.send(data)
            except (ConnectionClosed, OSError):
                continue  # the thread that reads notices too

    def _pulse(self) -> None:
        while not self._closing.wait(PING_EVERY):
            self.send(messages.Ping(1000 * time.monotonic()))


class _Told(Exception):
    """The server said why it closes: trying again would not help."""
