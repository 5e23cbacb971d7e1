"""A world with the real one's interface and no network: colours that depend on seed, prompt and every action so far."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scope_play.actions import ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.images import Image as Picture
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.interfaces import Chunk, WorldSpec


def fake_spec(**changes: Any) -> WorldSpec:
    return WorldSpec(
        **{
            "name": "fake",
            "height": 48,
            "width": 80,
            "has_text": True,
            "trained": False,
            "stream": StreamConfig(window=9),
        }
        | changes
    )


@dataclass(frozen=True)
class FakeSnapshot:
    state: np.ndarray
    index: int
    prompt: str | None
    nbytes: int = 1000


class FakeSession:
    """State is a running sum of all action rows, so one changed value changes every later frame."""

    def __init__(self, world: FakeWorld, image: np.ndarray | None, prompt: str | None, seed: int) -> None:
        self._world = world
        self._prompt = prompt
        self._seed = seed
        self._state = np.zeros(ROW_WIDTH, np.float64)
        self.index = 0
        spec = world.spec
        self.first_frame = image if image is not None else self._frame(0)
        if self.first_frame.shape != (spec.height, spec.width, 3):
            raise ScopeError(
                f"the image is {self.first_frame.shape[:2]}, this world wants {(spec.height, spec.width)}."
            )

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frame(self, number: int) -> np.ndarray:
        spec = self._world.spec
        y, x = np.mgrid[0 : spec.height, 0 : spec.width].astype(np.float64)
        turn, walk = self._state[8] * 6, self._state[7] * 6
        red = 127 + 120 * np.sin((x + turn) / 9 + self._seed)
        green = 127 + 120 * np.sin((y + walk) / 7 + len(self._prompt or ""))
        blue = np.full_like(x, (40 * self._state[:6].sum() + number) % 256)
        return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk:
        self._world.before_step(self.index)
        n = self._world.spec.frames_per_chunk
        if actions.shape != (n, ROW_WIDTH) or actions.dtype != np.float32:
            raise ScopeError(
                f"a chunk takes float32 actions of shape {(n, ROW_WIDTH)}, got {actions.dtype} {actions.shape}."
            )
        frames: list[np.ndarray] = []
        for row in actions:
            self._state += row
            frames.append(self._frame(self.index * n + len(frames) + 1))
        self.index += 1
        return Chunk(np.stack(frames), self.index - 1, {"denoise": 0.002, "decode": 0.001})

    def flush_commit(self) -> None:
        return

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]:
        for row in rows:
            yield self.step(row)

    def set_prompt(self, prompt: str) -> None:
        self._prompt = prompt

    def set_stream(self, config: StreamConfig) -> None:
        self._world.streams.append(config)

    @property
    def snapshot_nbytes(self) -> int:
        return self._world.snapshot_bytes

    def snapshot(self, *, on_host: bool = False) -> FakeSnapshot:
        self._world.snapshots_taken += 1
        return FakeSnapshot(self._state.copy(), self.index, self._prompt, self._world.snapshot_bytes)

    def restore(self, snapshot: FakeSnapshot) -> None:
        self._state = snapshot.state.copy()
        self.index = snapshot.index
        self._prompt = snapshot.prompt

    def close(self) -> None:
        self._world.closed_sessions += 1


@dataclass
class FakeWorld:
    """`errors` maps a step count over the world's life to the error that step raises; `seconds` is a chunk's cost."""

    spec: WorldSpec = field(default_factory=fake_spec)
    seconds: float = 0.0
    errors: dict[int, BaseException] = field(default_factory=dict)
    snapshot_bytes: int = 1000
    identity: dict[str, str] = field(default_factory=lambda: {"model": "fake", "sha256": "0" * 64})
    steps_made: int = 0
    closed_sessions: int = 0
    snapshots_taken: int = 0
    streams: list[StreamConfig] = field(default_factory=list)

    def start(self, image: Picture | None = None, prompt: str | None = None, seed: int = 0) -> FakeSession:
        if isinstance(image, (str, Path)):
            from PIL import Image, UnidentifiedImageError

            try:
                with Image.open(image) as picture:
                    image = np.asarray(picture.convert("RGB").resize((self.spec.width, self.spec.height)))
            except (OSError, UnidentifiedImageError) as error:
                raise ScopeError(f"{image} is not a picture that can be read; choose a PNG or JPEG.") from error
        if prompt is not None and not self.spec.has_text:
            raise ScopeError(f"{self.spec.name} takes no prompt; leave the prompt empty.")
        return FakeSession(self, image, prompt, seed)

    def before_step(self, index: int) -> None:
        self.steps_made += 1
        if self.seconds:
            time.sleep(self.seconds)
        if self.steps_made in self.errors:
            raise self.errors.pop(self.steps_made)
