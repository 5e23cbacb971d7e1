"""The arena behind the API of `scope_play.world`: what plays a model plays the simulator too, and evaluation can ask it
what should have happened."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from scope_play.actions import ROW_WIDTH, check_rows
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.arena.simulate import ArenaState, Simulator
from scope_play.errors import ScopeError
from scope_play.images import Image
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.interfaces import Chunk, WorldSpec


@dataclass(frozen=True)
class ArenaSnapshot:
    """The whole of a session: its state and how many frames it has made."""

    state: ArenaState
    index: int

    @property
    def nbytes(self) -> int:
        return self.state.nbytes


class ArenaWorld:
    """The simulator as a world. A chunk is one frame: it answers every row.

    The seed of a session chooses where it starts; with `varied` also weapon, ammunition, pitch and targets, as in
    training clips: session `seed` then starts exactly as `Arena(1, seed)`.
    """

    def __init__(
        self,
        height: int = 480,
        width: int = 832,
        config: ArenaConfig | None = None,
        *,
        varied: bool = False,
        threads: int | None = None,
    ) -> None:
        self.config = config or ArenaConfig()
        self.varied = varied
        self.spec = WorldSpec("arena", height, width, stream=StreamConfig(steps=1, window=1), frames_per_latent=1)
        self.identity = {"model": "arena", "sha256": hashlib.sha256(repr(self.config).encode()).hexdigest()}
        self.renderer = Renderer(self.config, height, width, threads)

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> ArenaSession:
        """Begin at the place that `seed` chooses. An `image` is accepted only if it is that place's own picture."""
        if prompt:
            raise ScopeError("the arena reads no prompts; leave the prompt out.")
        session = ArenaSession(self, seed)
        if image is not None and not (isinstance(image, np.ndarray) and np.array_equal(image, session.first_frame)):
            raise ScopeError("the arena cannot start from a picture; choose a place with the seed.")
        return session


class ArenaSession:
    """One running game. See `scope_play.world.Session`, whose methods these are."""

    def __init__(self, world: ArenaWorld, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.index = 0
        self.prompt: str | None = None
        self._simulator = Simulator([seed], world.config, world.varied)
        self._closed = False
        self.first_frame = self._picture()

    @property
    def state(self) -> ArenaState:
        """The simulator's state now, (1,); see `scope_play.arena.simulate.STATE`."""
        return self._simulator.state.copy()

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk:
        """Take one row, (1, 10), and give the frame (1, H, W, 3) that it causes. There is never anything to commit."""
        self._check_open()
        rows = np.asarray(actions, np.float32)
        if rows.shape != (1, ROW_WIDTH):
            raise ScopeError(f"actions have shape {rows.shape}, but the arena takes {(1, ROW_WIDTH)} a step.")
        check_rows(rows, "actions")
        began = time.perf_counter()
        self._simulator.step(rows)
        stepped = time.perf_counter()
        frame = self._picture()
        drawn = time.perf_counter()
        chunk = Chunk(frame[None], self.index, {"denoise": stepped - began, "decode": drawn - stepped, "commit": 0.0})
        self.index += 1
        return chunk

    def flush_commit(self) -> None:
        """Nothing is deferred here."""

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Step through an iterable of single rows (10,)."""
        for row in rows:
            yield self.step(np.asarray(row)[None])

    def set_prompt(self, prompt: str) -> None:
        raise ScopeError("the arena reads no prompts; leave the prompt out.")

    def set_stream(self, config: StreamConfig) -> None:
        raise ScopeError("the arena denoises nothing, so there is nothing to set.")

    @property
    def snapshot_nbytes(self) -> int:
        return self._simulator.state.nbytes

    def snapshot(self, *, on_host: bool = False) -> ArenaSnapshot:
        """A copy of this moment."""
        self._check_open()
        return ArenaSnapshot(self.state, self.index)

    def restore(self, snapshot: ArenaSnapshot) -> None:
        """Go back to a snapshot: the same rows from there give the same frames."""
        self._check_open()
        self._simulator.state = snapshot.state.copy()
        self.index = snapshot.index

    def close(self) -> None:
        """End the session; afterwards it can only be closed again."""
        self._closed = True

    def _picture(self) -> np.ndarray:
        return self.world.renderer.render(self._simulator.state)[0][0]

    def _check_open(self) -> None:
        if self._closed:
            raise ScopeError("this session is closed; start a new one with world.start().")

    def __enter__(self) -> ArenaSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
