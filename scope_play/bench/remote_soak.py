"""The long run of the remote benchmark: players come, play and go, and the server's memory is read by the minute."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scope_play.bench.remote_players import Bot
from scope_play.bench.served import MarkedServer

STAY = (10.0, 30.0)


@dataclass(frozen=True)
class Minute:
    """`memory`: resident bytes of the server at its end; `frames` shown by all who left within it; `lost`, `invented`:
    presses of theirs."""

    memory: int
    left: int
    frames: int
    lost: int
    invented: int


def soak(server: MarkedServer, url: str, players: int, minutes: float) -> Iterator[Minute]:
    """So many at a time; raises ScopeError with the first player's trouble."""
    chance = random.Random(0)
    end = time.monotonic() + 60 * minutes
    playing: list[tuple[float, Bot]] = []
    seed = 0
    while time.monotonic() < end:
        minute, left = min(end, time.monotonic() + 60), []
        while (now := time.monotonic()) < minute:
            for over, bot in [each for each in playing if each[0] < now]:
                playing.remove((over, bot))
                bot.stop()
                left.append(bot.seen)
            while len(playing) < players:
                seed += 1
                bot = Bot(url, seed)
                bot.start()
                playing.append((now + chance.uniform(*STAY), bot))
            time.sleep(0.2)
        yield Minute(
            memory=server.memory(),
            left=len(left),
            frames=sum(len(seen.shown) for seen in left),
            lost=sum(seen.lost for seen in left),
            invented=sum(seen.invented for seen in left),
        )
    for _, bot in playing:
        bot.stop()
