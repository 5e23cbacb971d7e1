"""A server in a thread of its own, on a port of its own, and raw sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import uvicorn

from scope_play.loading.request import LoadRequest
from scope_play.serve.app import create_app
from scope_play.serve.archive import Archive
from scope_play.serve.config import ServeConfig
from scope_play.serve.floor import Floor
from scope_play.serve.here import HereChairs
from scope_play.serve.lobby import Lobby
from scope_play.session.interfaces import WorldLike
from scope_play.wire import messages
from tests.helpers.fake_world import FakeWorld

TOKEN = "a-token-for-tests-only-0123456789"
LIMIT = 20.0


class Served:
    """A running server: its `url` with the token, its `lobby`, and `call` to run something in its loop."""

    def __init__(self, folder: Path, open_world: Callable[[LoadRequest], WorldLike], **options: Any) -> None:
        self._folder, self._open_world, self._options = folder, open_world, options
        self._started: SimpleQueue[int | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="server")
        self._thread.start()
        port = self._started.get(timeout=LIMIT)
        if isinstance(port, BaseException):
            raise port
        self.port = port

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/#{TOKEN}"

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.floor = Floor(LoadRequest("fake"), seats=0, open_world=self._open_world)
        config = ServeConfig(**self._options)
        chairs = HereChairs(self.floor, config.seats, config.history_mb << 20)
        self.lobby = Lobby(chairs, Archive(self._folder), config)
        app = create_app(self.lobby, TOKEN, "nano")
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                port=0,
                log_level="warning",
                ws="websockets-sansio",
                ws_max_size=1 << 20,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        self._started.put(server.servers[0].sockets[0].getsockname()[1])
        await self._stop.wait()
        await self.lobby.close()
        server.should_exit = True
        await serving
        self.floor.close()


@contextlib.contextmanager
def serving(
    folder: Path, open_world: Callable[[LoadRequest], WorldLike] = lambda request: FakeWorld(), **options: Any
) -> Iterator[Served]:
    served = Served(folder, open_world, **options)
    try:
        yield served
    finally:
        served.stop()


class Raw:
    """A socket spoken to message by message."""

    def __init__(self, served: Served, **options: Any) -> None:
        from websockets.sync.client import connect

        address = f"ws://127.0.0.1:{served.port}/ws"
        self.socket = connect(address, compression=None, proxy=None, **options).__enter__()

    def hello(self, **changes: Any) -> Raw:
        fields: dict[str, Any] = {"version": messages.VERSION, "token": TOKEN, "codecs": ("raw",), **changes}
        self.send(messages.Hello(**fields))
        return self

    def send(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, (str, bytes)) else messages.write(message))

    def next(self) -> Any:
        """The next message or picture's bytes."""
        data = self.socket.recv(timeout=LIMIT)
        return data if isinstance(data, bytes) else messages.read(data, messages.TO_PLAYER)

    def until(self, kind: type[Any]) -> Any:
        while not isinstance(item := self.next(), kind):
            pass
        return item

    def code(self) -> int:
        """The code that the server closes with, after whatever it still says."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    def close(self) -> None:
        self.socket.close()
