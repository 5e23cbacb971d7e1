"""A door's way to seats elsewhere, and one player's line to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from scope_play.serve.cluster.post import Letter

if TYPE_CHECKING:
    from scope_play.serve.cluster.seats import Reply

TRY_AGAIN = 0.5
"""Seconds after a replica was lost that was about to take a player."""


class Line:
    """Letters to a stage and what it answers. It breaks with its replica."""

    def __init__(self, post: Any, box: str, stream: Any) -> None:
        self._post, self._box, self._stream = post, box, stream
        self._count = 0

    def send(self, letter: Letter) -> None:
        self._post.put.remote(self._box, self._count, letter)
        self._count += 1

    async def replies(self) -> AsyncIterator[Reply]:
        """Until the line is closed. Raises whatever Ray raises when the replica is lost."""
        async for reply in self._stream:
            yield reply

    def close(self) -> None:
        """The replica gives the seat back."""
        self._post.drop.remote(self._box)

    def give_up(self) -> None:
        """Nobody waits for the request any more."""
        self.close()
        self._stream.cancel()


async def attach(seats: Any, post: Any) -> Line:
    """A seat, as soon as Ray Serve has one. `seats`: the deployment's handle; `post`: that of a `Post`."""
    while True:
        box = secrets.token_urlsafe(9)
        await post.open.remote(box)
        line = Line(post, box, stream := seats.options(stream=True).attach.remote(post, box))
        try:
            await stream.__anext__()
            return line
        except asyncio.CancelledError:
            line.give_up()
            raise
        except Exception as error:  # noqa: BLE001 - a replica may end in many ways before it says anything
            logging.getLogger("ray.serve").warning("No seat (%s); asking again.", type(error).__name__)
            with contextlib.suppress(Exception):
                line.give_up()
            await asyncio.sleep(TRY_AGAIN)
