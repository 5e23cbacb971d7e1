"""What goes between a front end and an engine: commands in, events out, and a status to look at.

A local engine and a remote one differ behind `EngineLike` only. Rows are sampled where the pad is: an engine is made
with a function that gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from scope_play.play.pacing import Flying

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.recording.metadata import BuildSetup
    from scope_play.sampling.stream_config import StreamConfig
    from scope_play.session.interfaces import WorldSpec


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
    """Free the present world and load what `request` names; of several loads not yet begun the newest counts."""

    request: LoadRequest


@dataclass(frozen=True)
class Begin:
    """Start a session; it stands paused on its first frame until `play`.

    image: uint8 (H, W, 3), a path that the engine can read, or what a picture file holds; None is the world's own.
    """

    image: np.ndarray | Path | bytes | None = None
    prompt: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class SetPrompt:
    """From the next chunk on."""

    prompt: str


@dataclass(frozen=True)
class SetStream:
    """Denoise otherwise from the next chunk on, and in the games after it; what is None is as the model was loaded."""

    mode: str | None = None
    steps: int | None = None
    shift: float | None = None
    window: int | None = None
    guidance: float | None = None
    action_guidance: float | None = None

    def of(self, loaded: StreamConfig) -> StreamConfig:
        """The config that it asks for, of a world that was loaded with `loaded`. Raises ScopeError."""
        changes: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        return replace(loaded, **changes)


@dataclass(frozen=True)
class GoBack:
    """To the state after `chunk` chunks; stands paused there."""

    chunk: int


@dataclass(frozen=True)
class Leave:
    """End the session, keep the world."""


Command: TypeAlias = Load | Begin | SetPrompt | SetStream | GoBack | Leave


@dataclass(frozen=True)
class Loaded:
    """A world is ready; `picture` is the first frame of its own scene, uint8 (H, W, 3), if it has one. `note`: what the
    player should know of it."""

    spec: WorldSpec
    picture: np.ndarray | None
    note: str = ""


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
    seconds the engine was busy with it, housekeeping of the chunk before included. `hashes`: the `frame_hash` of every
    frame as the model made it, from an engine that sends its frames compressed; empty where `frames` are those.
    `answer`: of an engine elsewhere, seconds from asking to having, less those that the chunk waited for the model.
    """

    index: int
    frames: np.ndarray
    rows: np.ndarray
    prompt: str | None
    timings: dict[str, float]
    sampled: float
    ready: float
    work: float
    hashes: tuple[str, ...] = ()
    answer: float | None = None


@dataclass(frozen=True)
class Adopted:
    """The game is denoised as `stream` says now; `fps`: what that will probably reach, None before the first chunk."""

    stream: StreamConfig
    fps: float | None


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


@dataclass(frozen=True)
class Interrupted:
    """Play stands still by itself, or may go on again: `text` says why. The session is as it was."""

    text: str


Event: TypeAlias = Loaded | Opened | Made | Adopted | WentBack | Failed | Refused | Interrupted


TakeRows: TypeAlias = Callable[[float, int], np.ndarray]
"""`(now, n) -> float32 (n, 10)`: what the player did, as the next n action rows."""

Clock: TypeAlias = Callable[[], float]

REACH_CHUNKS = 600
"""How far one can go back: two minutes of chunks of 200 ms."""


@dataclass(frozen=True, slots=True)  # all of a session's are kept: an hour has 18,000
class Step:
    """What made one chunk: rows float32 (frames_per_chunk, 10), the prompt it was made under, and how it was denoised,
    None for as the model was loaded."""

    rows: np.ndarray
    prompt: str | None
    stream: StreamConfig | None = None


class EngineLike(Protocol):
    """What plays a world. All methods may be called from any thread and return at once, except `wait` and `close`."""

    @property
    def status(self) -> Status: ...

    @property
    def alive(self) -> bool:
        """Whether it can still answer; once it cannot, `status` says why."""

    @property
    def flying(self) -> Flying:
        """Frames that were asked for and not yet taken; none where one chunk is made at a time."""

    def post(self, command: Command) -> None:
        """Obeyed after the chunk in the making. All but `SetPrompt` and `SetStream` also stop play."""

    def play(self, begin_at: float, *, ahead: bool = False) -> None:
        """Make one chunk, sampling its rows at clock time `begin_at` (in the past: at once). Asked anew for each.

        ahead: the rows of the chunk after it may be sampled as soon as they can be of use, before this one is out.
        """

    def pause(self) -> None: ...

    def take(self) -> Event | None:
        """The oldest event not yet taken."""

    def wait(self, seconds: float) -> bool:
        """Block until there is an event to take or `seconds` have passed; False if there is none."""

    def close(self, seconds: float = 5.0) -> bool:
        """Stop after the chunk in the making and free everything; False if it was still busy after `seconds`."""


class MakeEngine(Protocol):
    """How a front end gets its engine."""

    def __call__(self, take_rows: TakeRows, *, clock: Clock, history_bytes: int) -> EngineLike: ...
