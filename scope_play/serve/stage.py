"""What a game on the server asks of a model: a stage for each player, wherever the model is.

`scope_play.serve.here` has the model in this process, `scope_play.serve.cluster` on machines of a Ray cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from scope_play.play.engine.protocol import Begin, Step
from scope_play.recording.metadata import BuildSetup

if TYPE_CHECKING:
    from scope_play.recording.replay import Script
    from scope_play.session.interfaces import WorldSpec

SNAPSHOTS = 8
"""Moments of a game that are kept by name."""


@dataclass(frozen=True)
class Setting:
    """What is played. `picture`: its own first frame, uint8 (H, W, 3), if it has one."""

    spec: WorldSpec
    identity: dict[str, str]
    picture: np.ndarray | None
    build: BuildSetup


@dataclass(frozen=True)
class Drawn:
    """A chunk, the `index`-th from 1: frames uint8 (n, H, W, 3) and the prompt they were made under. Milliseconds:
    waited for the model, denoising, decoding, and what of the model's time one chunk takes while all play."""

    index: int
    frames: np.ndarray
    prompt: str | None
    queued: float
    denoise: float
    decode: float
    work: float


Progress = Callable[[int, int], None]
"""How many of how many chunks are made again; from any thread."""

Checked = Callable[[int, int, "int | None"], None]
"""Frames compared, frames in all, and the first that differs; from any thread."""


class Stage(Protocol):
    """One player's seat at a model. What is asked for is done in order. All methods are for the event loop's thread;
    they raise what a model can raise, see `play.engine.seat.in_a_sentence`."""

    @property
    def moments(self) -> Collection[str]:
        """Names of the snapshots that can be restored, the oldest first; at most `SNAPSHOTS`."""

    def tell(self, told: Callable[[str], None]) -> None:
        """`told` gets sentences for the player while the game cannot go on."""

    async def begin(self, begin: Begin) -> np.ndarray:
        """A game. Returns its first frame, uint8 (H, W, 3)."""

    def make(self, rows: np.ndarray, due: float, delay: float, out: Callable[[Drawn], None]) -> asyncio.Future[None]:
        """The chunk that rows, float32 (frames_per_chunk, 10), lead to: wanted in `due` seconds and not begun before
        `delay`. `out` gets it in any thread, before the future is done."""

    async def go_back(self, chunk: int, progress: Progress) -> tuple[int, np.ndarray]:
        """To the state after `chunk` chunks; chunks asked for and not begun are dropped. Returns how many there are
        now, and the frame last seen then."""

    async def set_prompt(self, text: str) -> None: ...

    async def snapshot(self, name: str) -> None: ...

    async def restore(self, name: str) -> list[Step]:
        """To one of `moments`. Returns the steps that led there."""

    async def end(self) -> None:
        """The game is over; the seat stays."""

    async def check(self, script: Script, tell: Checked) -> None:
        """Replay a clip between the chunks of those who play. Cancelling it stops it."""

    async def close(self) -> None:
        """The game is over, and the seat is given back."""


class Chairs(Protocol):
    """All that there are. `at_once`: seconds in which a free one is found; who has none by then is told a place."""

    at_once: float

    @property
    def ready(self) -> bool:
        """Whether `setting` is known."""

    async def setting(self) -> Setting:
        """Once the model is loaded and warm. Raises what was wrong."""

    async def take(self) -> Stage:
        """A seat, as soon as one is free: whoever asked first is first. Cancelling it gives up."""
