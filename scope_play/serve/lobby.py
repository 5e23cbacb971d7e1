"""Who has a seat, who waits for one, and who has been away for too long."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from scope_play.serve.archive import Archive
from scope_play.serve.config import ServeConfig
from scope_play.serve.game import Game
from scope_play.serve.stage import Chairs, Setting, Stage
from scope_play.wire import messages

TEND_EVERY = 1.0

HOLD_NOTHING = 10.0
"""Seconds that a seat is kept whose player was not in a game when the connection was lost."""


class TurnedAway(Exception):
    """There is no place, not even to wait: close with `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Lobby:
    """All methods are for the event loop's thread."""

    def __init__(self, chairs: Chairs, archive: Archive, config: ServeConfig) -> None:
        self.chairs, self.archive, self.config = chairs, archive, config
        self.games: dict[str, Game] = {}
        self.draining = False
        self._waiting: dict[asyncio.Task[Stage], Callable[[int], None]] = {}

    @property
    def ready(self) -> bool:
        """Whether the model is loaded, or cannot be."""
        return self.chairs.ready

    async def setting(self) -> Setting:
        return await self.chairs.setting()

    async def admit(self, told: Callable[[int], None]) -> Game:
        """A seat, as soon as there is one; `told` gets the place in the queue whenever it changes."""
        self._require_open()
        setting = await self.setting()
        if len(self._waiting) >= self.config.waiting:
            raise TurnedAway(messages.FULL, "All seats are taken and many wait; come back later.")
        taking: asyncio.Task[Stage] = asyncio.create_task(self.chairs.take())
        try:
            await asyncio.wait((taking,), timeout=self.chairs.at_once)
            if not taking.done():
                self._waiting[taking] = told
                told(len(self._waiting))
                await asyncio.wait((taking,))
            self._require_open()
        except (asyncio.CancelledError, TurnedAway):
            await self._give_up(taking)
            raise
        finally:
            if self._waiting.pop(taking, None):
                self._tell()
        game = Game(secrets.token_urlsafe(24), taking.result(), setting, self.archive)
        self.games[game.secret] = game
        return game

    def resume(self, secret: str) -> Game | None:
        return self.games.get(secret)

    async def free(self, game: Game, reason: str) -> None:
        """End a game and give its seat on."""
        if self.games.pop(game.secret, None) is None:
            return
        async with game.turn:
            await game.close(reason)

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
        for taking in self._waiting:
            taking.cancel()
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

    def _require_open(self) -> None:
        if self.draining:
            raise TurnedAway(messages.AGAIN, "The server is about to stop; connect again later.")

    async def _give_up(self, taking: asyncio.Task[Stage]) -> None:
        taking.cancel()
        await asyncio.wait((taking,))
        if not taking.cancelled() and not taking.exception():
            await taking.result().close()

    def _tell(self) -> None:
        for place, told in enumerate(self._waiting.values(), 1):
            told(place)
