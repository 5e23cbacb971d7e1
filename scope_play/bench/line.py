"""A bad line in this process: a TCP proxy that delays, slows down, stands still, or breaks what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import TracebackType

KEPT = 1 << 16
"""Bytes in each direction that a slow or still line keeps, beside those on their way, before the sender has to wait."""

FASTEST = 1e9
"""Bits a second that a line carries whose rate is not limited: so much is on its way at once."""

PIECE = 1 << 12


class Line:
    """`port` leads to `target` on this machine, half of `round_trip` seconds later each way, with at most `rate` bits a
    second each way. `carried`: bytes from and to the target."""

    def __init__(self, target: int, round_trip: float = 0.0, rate: float | None = None) -> None:
        self._target, self._delay, self._rate = target, round_trip / 2, rate
        self._still_until = 0.0
        self.carried = [0, 0]
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="line", daemon=True)
        self._thread.start()
        self._ready.wait()

    def stall(self, seconds: float) -> None:
        """Nothing moves for so long; nothing is lost."""
        self._still_until = time.monotonic() + seconds

    def cut(self) -> None:
        """Break every connection, with whatever was on its way."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._cut()
        await asyncio.sleep(0)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        try:
            await asyncio.gather(self._carry(reader, to_writer, 1), self._carry(to_reader, writer, 0))
        except asyncio.CancelledError:
            return  # the line is closed
        finally:
            for each in (writer, to_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        on_its_way = self._delay * (self._rate or FASTEST) / 8
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue((KEPT + int(on_its_way)) // PIECE)

        async def deliver() -> None:
            free = 0.0
            while (item := await queue.get())[1]:
                at, data = item
                free = max(free, at + self._delay, self._still_until)
                while (wait := max(free, self._still_until) - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if self._rate:
                    free = time.monotonic() + 8 * len(data) / self._rate
                self.carried[way] += len(data)
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                await queue.put((time.monotonic(), data))
        await queue.put((time.monotonic(), b""))
        with contextlib.suppress(OSError):
            await delivering
        with contextlib.suppress(OSError):
            writer.write_eof()
