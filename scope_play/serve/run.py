"""The server as a program: it says where it is, serves until it is told to stop, and leaves nothing half written."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.interrupts import on_signals
from scope_play.play.engine.open import open_here
from scope_play.play.engine.seat import in_a_sentence
from scope_play.serve.app import create_app
from scope_play.serve.archive import Archive
from scope_play.serve.config import ServeConfig
from scope_play.serve.floor import Floor, Ground
from scope_play.serve.here import HereChairs
from scope_play.serve.lobby import Lobby

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.session.interfaces import WorldLike

UNSENT = 1 << 14
"""Bytes the system may keep of what it has not sent: more would hide that a line is slow."""

MOST_MESSAGE = 1 << 20


class _Server(uvicorn.Server):
    """Signals are ours: the first SIGTERM drains."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    request: LoadRequest,
    config: ServeConfig,
    token: str,
    say: Callable[[str], None],
    open_world: Callable[[LoadRequest], WorldLike] = open_here,
) -> int:
    """Serve until a signal comes. Raises ScopeError for an address that cannot be had or a model that cannot be."""
    listening = listen(config)
    with contextlib.ExitStack() as stack:
        stack.callback(listening.close)
        root = config.record or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scope-play-clips-")))
        history_bytes = config.history_mb << 20
        floor = Floor(request, seats=config.seats, history_bytes=history_bytes, open_world=open_world)
        stack.callback(floor.close)
        return asyncio.run(_serve(listening, floor, Archive(place(root)), config, token, request.model, say))


async def _serve(
    listening: socket.socket,
    floor: Floor,
    archive: Archive,
    config: ServeConfig,
    token: str,
    model: str,
    say: Callable[[str], None],
) -> int:
    lobby = Lobby(HereChairs(floor, config.seats, config.history_mb << 20), archive, config)
    server = _Server(
        uvicorn.Config(
            create_app(lobby, token, model),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="websockets-sansio",
            ws_max_size=MOST_MESSAGE,
            ws_per_message_deflate=False,
            ws_ping_interval=20,
            ws_ping_timeout=60,
            limit_concurrency=2 * config.connections,
            timeout_graceful_shutdown=5,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=str(config.tls_key) if config.tls_key else None,
        )
    )
    told = asyncio.Event()
    drain = 0.0

    def stop(seconds: float) -> None:
        nonlocal drain
        drain = 0.0 if told.is_set() else seconds
        told.set()
        lobby.draining = True

    restore = on_signals(stop, config.drain)
    try:
        serving = asyncio.create_task(server.serve([listening]))
        for line in addresses(config, listening.getsockname()[1], token):
            say(line)
        ended = asyncio.create_task(told.wait())
        ground = asyncio.wrap_future(floor.ground)
        await asyncio.wait((serving, ended, ground), return_when=asyncio.FIRST_COMPLETED)
        if ground.done() and (problem := _problem(ground)):
            server.should_exit = True
            await serving
            raise ScopeError(problem)
        if not told.is_set():
            say(f"{ground.result().world.spec.name} is ready: {config.seats} seats.")
            await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
        if drain:
            say(f"Nobody is let in any more; games end within {drain:.0f} seconds. Again to stop at once.")
            draining = asyncio.create_task(lobby.drain(drain))
            while not draining.done() and drain:
                await asyncio.wait((draining,), timeout=0.1)
            draining.cancel()
        await lobby.close()
        server.should_exit = True
        await serving
    finally:
        restore()
    say("Stopped; recordings are closed.")
    return 0


def _problem(ground: asyncio.Future[Ground]) -> str:
    """Why nobody can play; empty if they can."""
    try:
        ground.result()
    except Exception as error:  # noqa: BLE001 - whatever a loader raises ends the server with a sentence
        return in_a_sentence(error, "loading the model")
    return ""


def addresses(config: ServeConfig, port: int, token: str) -> Iterator[str]:
    """What to open, and what to type first if it runs elsewhere. The token is in the fragment, which is never sent."""
    scheme = "https" if config.tls_cert else "http"
    everywhere = config.host in ("0.0.0.0", "::")
    host = config.known_names[0] if everywhere else config.host
    host = f"[{host}]" if ":" in host else host
    yield f"Open {scheme}://{host}:{port}/#{token}"
    if config.is_loopback:
        yield f"From another machine, first: ssh -N -L {port}:localhost:{port} {getpass.getuser()}@{platform.node()}"
    elif not config.tls_cert:
        yield "Without TLS browsers decode JPEG only, and whoever shares the network can read along."


def listen(config: ServeConfig) -> socket.socket:
    kind = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With its protocol: asyncio sends without delay only over sockets that say that they are TCP's, and otherwise the
    # pictures of a chunk wait for the other end's acknowledgements, 40 ms or a round trip.
    made = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25), UNSENT)
        made.bind((config.host, config.port))
        made.listen(64)
    except OSError as error:
        made.close()
        raise ScopeError(
            f"{config.host}:{config.port} cannot be listened to ({error.strerror}); choose another --port or --host."
        ) from error
    return made
