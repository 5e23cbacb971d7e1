"""A world that runs elsewhere, with the same methods and, chunk by chunk, the same bytes as one that runs here."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np

from scope_play.actions import check_rows
from scope_play.errors import ScopeError
from scope_play.images import Image
from scope_play.records import read_record
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.interfaces import Chunk, WorldSpec
from scope_play.wire import messages
from scope_play.wire.client import Arrived, Connection, Ended, Lost, Still
from scope_play.wire.header import pack_rows

ANSWER_SECONDS = 300.0


class RemoteWorld:
    """`url` is what `scope-play serve` printed. Each open session takes a seat there; the first is taken at once.

    Raises ScopeError if there is no such server, or no seat within `wait` seconds.
    """

    def __init__(self, url: str, *, wait: float = 60.0) -> None:
        self._url, self._wait = url, wait
        self._idle: list[_Link] = [_Link(url, wait)]
        self.spec: WorldSpec = self._idle[0].spec
        self.identity = {"model": self._idle[0].welcome.model, "sha256": ""}

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> RemoteSession:
        """As `World.start`; a path is read here."""
        link = self._idle.pop() if self._idle else _Link(self._url, self._wait)
        try:
            session = RemoteSession(self, link, image, prompt, seed)
        except ScopeError:
            self.take_back(link)
            raise
        self.identity = {**self.identity, **session.identity}
        return session

    def take_back(self, link: _Link) -> None:
        """A session is over: its seat waits for the next one, or is given up."""
        if self._idle or link.ended:
            link.connection.close()
        else:
            self._idle.append(link)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().connection.close()

    def __enter__(self) -> RemoteWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class RemoteSnapshot:
    """A moment kept on the server, which keeps the newest eight."""

    name: str
    index: int
    nbytes: int = 0


class RemoteSession:
    """See `SessionLike`."""

    def __init__(self, world: RemoteWorld, link: _Link, image: Image | None, prompt: str | None, seed: int) -> None:
        self.spec = world.spec
        self.index = 0
        self._world, self._link, self._open, self._names = world, link, True, 0
        name = None if image is None else link.connection.upload(as_file(image))
        opened = link.ask(messages.Start(name, prompt, seed), messages.Opened)
        self.identity: dict[str, str] = opened.identity
        self.first_frame: np.ndarray = link.wait(Still).frame
        link.connection.send(messages.Play(link.now()))

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk:
        """As `Session.step`; a lost connection is waited for, and nothing is made twice."""
        self._require_open()
        rows = np.asarray(actions, np.float32)
        if rows.shape != (self.spec.frames_per_chunk, 10):
            raise ScopeError(f"a step takes {self.spec.frames_per_chunk} rows of 10, but these are {rows.shape}.")
        check_rows(rows, "The actions")
        n, link = self.index + 1, self._link
        arrived = link.ask(pack_rows(n, link.now(), rows), Arrived)
        now = link.now()
        link.connection.progress.show(n, now)
        link.connection.send(messages.Shown(n, now))
        self.index = n
        picture = arrived.picture
        timings = {"denoise": picture.denoise / 1000, "decode": picture.decode / 1000, "queued": picture.queued / 1000}
        return Chunk(arrived.frames, n - 1, timings)

    def flush_commit(self) -> None:
        """The server does it by itself."""

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]:
        held: list[np.ndarray] = []
        for row in rows:
            held.append(np.asarray(row, np.float32))
            if len(held) == self.spec.frames_per_chunk:
                yield self.step(np.stack(held))
                held.clear()

    def set_prompt(self, prompt: str) -> None:
        self._require_open()
        self._link.ask(messages.Prompt(prompt), messages.Done)

    def set_stream(self, config: StreamConfig) -> None:
        """Raises ScopeError: the server chose it, for all who play there."""
        raise ScopeError("how the model is run is the server's choice; leave it as it is.")

    @property
    def snapshot_nbytes(self) -> int:
        """A snapshot stays with the server."""
        return 0

    def snapshot(self, *, on_host: bool = False) -> RemoteSnapshot:
        self._require_open()
        self._names += 1
        kept = RemoteSnapshot(f"{id(self)}-{self._names}", self.index)
        self._link.ask(messages.Snapshot(kept.name), messages.Done)
        return kept

    def restore(self, snapshot: Any) -> None:
        self._require_open()
        self._link.ask(messages.Restore(snapshot.name), messages.Back)
        self._link.wait(Still)
        self._link.connection.progress.stand_at(snapshot.index)
        self._link.connection.send(messages.Play(self._link.now()))
        self.index = snapshot.index

    def close(self) -> None:
        if self._open:
            self._open = False
            self._link.connection.send(messages.Leave())
            self._link.connection.progress.stand_at(0)
            self._world.take_back(self._link)

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if not self._open:
            raise ScopeError("this session is closed; start another one.")


class _Link:
    """A connection asked and answered in turns."""

    def __init__(self, url: str, wait: float) -> None:
        self.ended = False
        self._asked: Any = None
        self._heard: SimpleQueue[Any] = SimpleQueue()
        self.connection = Connection(url, self._heard.put, free=True, device="python")
        self.welcome: messages.Welcome = self.wait(messages.Welcome, wait)
        self.spec = read_record(WorldSpec, self.welcome.spec, "the server's welcome", strict=False)

    def now(self) -> float:
        return 1000 * time.monotonic()

    def ask(self, message: Any, kind: type[Any]) -> Any:
        """Send a message, again if the connection breaks, and wait for its answer."""
        self._asked = message
        self.connection.send(message)
        answer = self.wait(kind)
        self._asked = None
        return answer

    def wait(self, kind: type[Any], seconds: float = ANSWER_SECONDS) -> Any:
        """The next answer of that kind; what it refuses or why it ended is a ScopeError."""
        end = time.monotonic() + seconds
        while True:
            try:
                item = self._heard.get(timeout=max(0.01, end - time.monotonic()))
            except Empty:
                self.connection.close()
                raise ScopeError(f"the server did not answer within {seconds:.0f} seconds; try again later.") from None
            if isinstance(item, kind):
                return item
            if isinstance(item, (messages.Refused, messages.Failed)):
                raise ScopeError(item.text)
            if isinstance(item, Ended):
                self.ended = True
                raise ScopeError(item.text)
            if isinstance(item, messages.Welcome):
                self._taken_up(item)
            elif not isinstance(item, (Lost, Arrived, Still)):
                continue

    def _taken_up(self, welcome: messages.Welcome) -> None:
        if not welcome.playing and not isinstance(self._asked, messages.Start):
            raise ScopeError("the server lost this session while the connection was away; start another one.")
        self.connection.send(messages.Play(0.0))
        made = isinstance(self._asked, bytes) and welcome.limits.get("asked") != welcome.chunk
        if self._asked and not made:
            self.connection.send(self._asked)


def as_file(image: Image) -> bytes:
    """A picture as what its file holds. Raises ScopeError if the file cannot be read."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        from PIL import Image as Pictures

        out = io.BytesIO()
        Pictures.fromarray(image).save(out, "PNG")
        return out.getvalue()
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise ScopeError(f"the picture {image} cannot be read ({error.strerror}); give a PNG or JPEG file.") from error
