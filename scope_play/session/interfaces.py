"""What plays: one description, one chunk and one set of methods, for a model, the simulator and whatever else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from scope_play.actions import AXES, BUTTONS, FPS, FRAMES_PER_LATENT
from scope_play.images import Image
from scope_play.sampling.stream_config import StreamConfig

if TYPE_CHECKING:
    from scope_play.sampling.stream import Progress


@dataclass(frozen=True)
class WorldSpec:
    """What a world takes and gives.

    height, width: of a frame, in pixels. frames_per_chunk: frames of a chunk, and action rows that it takes; a
    latent is four of them, and the simulator answers every row. stream: how it is denoised; of the simulator the
    plainest. has_scene: it can start without a picture. causal, trained: of the weights. precision: "fp32", "bf16",
    "fp16", or how the blocks' weights are stored, "fp8" or "int8". decoder: "full", the one that belongs to the
    model, or "tiny", its preview.
    """

    name: str
    height: int
    width: int
    has_text: bool = False
    has_scene: bool = True
    causal: bool = True
    trained: bool = True
    precision: str = "fp32"
    device: str = "cpu"
    decoder: str = "full"
    stream: StreamConfig = field(default_factory=StreamConfig)
    frames_per_latent: int = FRAMES_PER_LATENT
    fps: int = FPS
    buttons: tuple[str, ...] = BUTTONS
    axes: tuple[str, ...] = AXES

    @property
    def frames_per_chunk(self) -> int:
        return self.stream.chunk * self.frames_per_latent


@dataclass(frozen=True)
class Chunk:
    """What one step made: uint8 frames (n, H, W, 3), its number from 0, and seconds by stage.

    `timings` has "denoise" and "decode", and "commit" once the chunk has been written to the caches; if that was
    deferred, and on a GPU, from the next step on.
    """

    frames: np.ndarray
    index: int
    timings: dict[str, float]


class SnapshotLike(Protocol):
    """Everything a session is at one chunk."""

    @property
    def nbytes(self) -> int: ...


class SessionLike(Protocol):
    """One running world; see `scope_play.session.session.Session`."""

    @property
    def first_frame(self) -> np.ndarray: ...

    @property
    def index(self) -> int: ...

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk: ...

    def flush_commit(self) -> None: ...

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]: ...

    def set_prompt(self, prompt: str) -> None: ...

    def set_stream(self, config: StreamConfig) -> None: ...

    @property
    def snapshot_nbytes(self) -> int: ...

    def snapshot(self, *, on_host: bool = False) -> SnapshotLike: ...

    def restore(self, snapshot: Any) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> SessionLike: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class WorldLike(Protocol):
    """A world ready to play; see `scope_play.world.World`.

    identity: "model", its name or folder, and "sha256" of what its frames come from.
    """

    @property
    def spec(self) -> WorldSpec: ...

    @property
    def identity(self) -> dict[str, str]: ...

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> SessionLike: ...


@runtime_checkable
class Overlapping(Protocol):
    """A session that can begin a chunk beside the decoding of the one before; see `Session.step_ahead`."""

    @property
    def overlaps(self) -> bool: ...

    def step_ahead(self, actions: np.ndarray, following: Callable[[], np.ndarray]) -> Chunk: ...


@runtime_checkable
class Rehearsing(Protocol):
    """A world that is slow where a game is the first to ask for something, unless it was asked before.

    `idle_bytes`: what it keeps of its device's memory for games to come.
    """

    def rehearse(self, games: int = 1, progress: Progress | None = None) -> None: ...

    @property
    def idle_bytes(self) -> int: ...
