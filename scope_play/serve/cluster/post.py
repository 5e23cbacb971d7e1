"""Letters from a door to its stages on other machines.

An actor of its own and no calls to replicas: those need not arrive in the order they were made, wait behind players who
have no seat yet, and do not reach a replica that is being replaced while its games go on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Letter:
    """Something to be done; `number` is what its answers are called by."""

    number: int
    name: str
    arguments: tuple[Any, ...] = ()


@dataclass
class _Box:
    sent: dict[int, Letter] = field(default_factory=dict)
    taken: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)


class Post:
    """Boxes of letters, each emptied by one stage. Letters are counted, for they may overtake each other on their way
    to here."""

    def __init__(self) -> None:
        self._boxes: dict[str, _Box] = {}

    async def open(self, box: str) -> None:
        self._boxes[box] = _Box()

    async def put(self, box: str, count: int, letter: Letter) -> None:
        """`count` is 0, 1, ... in every box."""
        if found := self._boxes.get(box):
            found.sent[count] = letter
            found.more.set()

    async def take(self, box: str) -> list[Letter]:
        """Waits for the next letters, in their order. None at all: there is no such box any more."""
        while found := self._boxes.get(box):
            letters = []
            while found.taken in found.sent:
                letters.append(found.sent.pop(found.taken))
                found.taken += 1
            if letters:
                return letters
            found.more.clear()
            await found.more.wait()
        return []

    async def drop(self, box: str) -> None:
        if found := self._boxes.pop(box, None):
            found.more.set()

    async def alive(self) -> None:
        """Fails if the actor is gone."""
