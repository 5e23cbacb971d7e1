"""What goes between the window and the engine: commands in, events out, and a status to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from scope_play.recording.metadata import BuildSetup
    from scope_play.world import World, WorldSpec


class Phase(Enum):
    """What the engine is doing."""

    EMPTY = "empty"
    LOADING = "loading"
    WARMING = "warming up"
    READY = "ready"
    PLAYING = "playing"
    PAUSED = "paused"
    REWINDING = "rewinding"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Status:
    """`text`: a sentence for the screen; `since`: clock time at which this phase began."""

    phase: Phase
    text: str
    since: float
    spec: WorldSpec | None = None


@dataclass(frozen=True)
class Load:
    """Free the present world, then call `open_world` in the engine's thread."""

    name: str
    open_world: Callable[[], World]


@dataclass(frozen=True)
class Begin:
    """Start a session; it stands paused on its first frame until `play`."""

    image: np.ndarray | Path | None = None
    prompt: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class SetPrompt:
    """From the next chunk on."""

    prompt: str


@dataclass(frozen=True)
class GoBack:
    """To the state after `chunk` chunks; stands paused there."""

    chunk: int


@dataclass(frozen=True)
class Leave:
    """End the session, keep the world."""


Command: TypeAlias = Load | Begin | SetPrompt | GoBack | Leave


@dataclass(frozen=True)
class Loaded:
    """A world is ready; `picture` is the first frame of its own scene, uint8 (H, W, 3), if it has one."""

    spec: WorldSpec
    picture: np.ndarray | None


@dataclass(frozen=True)
class Opened:
    """A session has begun: its first frame, uint8 (H, W, 3), and what it was begun with.

    `build` is read in the engine's thread: torch's number of threads is each thread's own.
    """

    first_frame: np.ndarray
    begin: Begin
    spec: WorldSpec
    identity: dict[str, str]
    build: BuildSetup


@dataclass(frozen=True)
class Made:
    """A finished chunk, the `index`-th of its session, from 1.

    Times are of the engine's clock: `sampled` when its rows were taken, `ready` when its frames were there; `work`:
    seconds the engine was busy with it, housekeeping of the chunk before included.
    """

    index: int
    frames: np.ndarray
    rows: np.ndarray
    prompt: str | None
    timings: dict[str, float]
    sampled: float
    ready: float
    work: float


@dataclass(frozen=True)
class WentBack:
    """The world stands after `chunk` chunks, `frame` being the last one seen then."""

    chunk: int
    frame: np.ndarray


@dataclass(frozen=True)
class Failed:
    """`text`: one sentence. `world_lost`: the model was freed and has to be loaded again."""

    text: str
    world_lost: bool


@dataclass(frozen=True)
class Refused:
    """`text`: one sentence on why a command changed nothing; the session goes on."""

    text: str


Event: TypeAlias = Loaded | Opened | Made | WentBack | Failed | Refused
