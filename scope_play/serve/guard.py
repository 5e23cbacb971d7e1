"""Who may talk to the server: the token, the names it may be called by, and where a page must have come from.

A loopback port is open to every page in the browser. Those pages cannot know the token, cannot send this server's
Origin, and, with a name of their own that they point at this machine (DNS rebinding), cannot send its Host.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src blob:; connect-src 'self' ws://{host} wss://{host}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def same_token(given: str, token: str) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def bearer(authorization: str) -> str:
    """The token of an Authorization header; empty if it has none."""
    kind, _, token = authorization.partition(" ")
    return token if kind.lower() == "bearer" else ""


def host_allowed(host: str, names: Iterable[str]) -> bool:
    """An address, or a name that was given. A page with a name pointed here cannot make a browser send an address."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name in ("localhost", *names):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def origin_allowed(origin: str | None, host: str) -> bool:
    """Programs that are no browsers send none; a page must have come from here."""
    return origin is None or origin in (f"http://{host}", f"https://{host}")


class Guard:
    """Lets requests and sockets through to `app` if Host and Origin allow it, and adds headers to what comes back."""

    def __init__(self, app: Asgi, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = tuple(names)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers[b"origin"].decode("latin-1").lower() if b"origin" in headers else None
        if not (host_allowed(host, self._names) and origin_allowed(origin, host)):
            await _refuse(scope, receive, send)
            return
        policy = (b"content-security-policy", POLICY.format(host=host).encode("latin-1"))

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS, policy]}
            await send(message)

        await self._app(scope, receive, with_headers)


async def _refuse(scope: Scope, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: an HTTP 403
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"This server is not called by that name, or not by that page."})
