"""Who has a seat, who waits for one, and who has been away for too long."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from scope_play.serve.archive import Archive
from scope_play.serve.config import ServeConfig
from scope_play.serve.floor import Floor, Ground
from scope_play.serve.game import Game
from scope_play.wire import messages

TEND_EVERY = 1.0

HOLD_NOTHING = 10.0
"""Seconds that a seat is kept whose player was not in a game when the connection was lost."""


class TurnedAway(Exception):
    """There is no place, not even to wait: close with `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class _Waiting:
    told: Callable[[int], None]
    seat: asyncio.Future[Game] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Lobby:
    """All methods are for the event loop's thread."""

    def __init__(self, floor: Floor, archive: Archive, config: ServeConfig) -> None:
        self.floor, self.archive, self.config = floor, archive, config
        self.games: dict[str, Game] = {}
        self.draining = False
        self._waiting: list[_Waiting] = []
        self._leaving = 0

    async def ground(self) -> Ground:
        return await asyncio.shield(asyncio.wrap_future(self.floor.ground))

    async def admit(self, told: Callable[[int], None]) -> Game:
        """A seat, as soon as there is one; `told` gets the place in the queue whenever it changes."""
        if self.draining:
            raise TurnedAway(messages.AGAIN, "The server is about to stop; connect again later.")
        ground = await self.ground()
        if len(self.games) + self._leaving < self.config.seats and not self._waiting:
            return self._seat(ground)
        if len(self._waiting) >= self.config.waiting:
            raise TurnedAway(messages.FULL, f"All {self.config.seats} seats are taken and many wait; come back later.")
        waiting = _Waiting(told)
        self._waiting.append(waiting)
        told(len(self._waiting))
        try:
            return await waiting.seat
        except asyncio.CancelledError:
            if waiting.seat.done() and not waiting.seat.cancelled():
                await self.free(waiting.seat.result(), "the player left")
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._tell()

    def resume(self, secret: str) -> Game | None:
        return self.games.get(secret)

    async def free(self, game: Game, reason: str) -> None:
        """End a game and give its seat on."""
        if self.games.pop(game.secret, None) is None:
            return
        self._leaving += 1
        try:
            async with game.turn:
                await game.close(reason)
        finally:
            self._leaving -= 1
        self._next()

    async def tend(self) -> None:
        """Once a second: seats that nobody uses are paused, then freed."""
        while True:
            await asyncio.sleep(TEND_EVERY)
            now = time.monotonic()
            for game in list(self.games.values()):
                idle = now - game.input_at
                hold = self.config.hold if game.begun else min(self.config.hold, HOLD_NOTHING)
                if game.out is None and now - game.gone_at > hold:
                    await self.free(game, "the connection was lost")
                elif idle > self.config.free_after:
                    game.over = "Nobody played for long, so the seat was given on."
                    await self.free(game, "nobody played")
                elif idle > self.config.pause_after and game.playing:
                    game.pause()
                    game.send(messages.Status("idle", "Paused, as nobody plays."))

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, and games that are being played go on for at most so long."""
        self.draining = True
        for waiting in self._waiting:
            if not waiting.seat.done():
                waiting.seat.set_exception(
                    TurnedAway(messages.AGAIN, "The server is about to stop; connect again later.")
                )
        text = f"The server stops in {seconds:.0f} seconds; recordings are kept."
        for game in self.games.values():
            game.send(messages.Status("draining", text))
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(game.playing for game in self.games.values()):
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """End all games; recordings are finished when it returns."""
        self.draining = True
        for game in list(self.games.values()):
            game.over = "The server was stopped; recordings were kept."
            await self.free(game, "the server was stopped")

    def _seat(self, ground: Ground) -> Game:
        history = (self.config.history_mb << 20) // self.config.seats
        game = Game(secrets.token_urlsafe(24), self.floor, ground, self.archive, history)
        self.games[game.secret] = game
        return game

    def _next(self) -> None:
        if self._waiting and len(self.games) + self._leaving < self.config.seats and not self.draining:
            waiting = self._waiting.pop(0)
            if not waiting.seat.done():
                waiting.seat.set_result(self._seat(self.floor.ground.result()))
            self._tell()

    def _tell(self) -> None:
        for place, waiting in enumerate(self._waiting, 1):
            waiting.told(place)
