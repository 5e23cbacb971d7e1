"""One running world: the public face of a `SessionBatch` of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import numpy as np

from scope_play.actions import ROW_WIDTH
from scope_play.images import Image
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.batch import SessionBatch, Snapshot
from scope_play.session.interfaces import Chunk
from scope_play.session.loaded_model import LoadedModel
from scope_play.session.rows import rows_of_step


class Session:
    """One running world.

    Frame 0 is `first_frame`, the start image as the model got it; every `step` gives the next `frames_per_chunk`
    frames. Use as a context manager, or call `close`.
    """

    def __init__(self, model: LoadedModel, image: Image | None, prompt: str | None, seed: int) -> None:
        self._batch = SessionBatch(model, [image], prompt, [seed])
        self.spec = model.spec

    @property
    def first_frame(self) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self._batch.first_frames[0]

    @property
    def index(self) -> int:
        """Chunks made so far."""
        return self._batch.index

    @property
    def seed(self) -> int:
        return self._batch.seeds[0]

    @property
    def prompt(self) -> str | None:
        """The prompt of the last chunk made."""
        return self._batch.prompt

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk:
        """Take rows (frames_per_chunk, 10) and give the next frames (frames_per_chunk, H, W, 3) that they cause.

        With `defer_commit` the frames come before the caches are written; call `flush_commit` afterwards, at leisure.
        Raises ScopeError on a wrong shape, a value out of range, or a closed session; nothing has then changed.
        """
        self._batch.check_open()
        rows = rows_of_step(actions, (self.spec.frames_per_chunk, ROW_WIDTH))
        chunk = self._batch.step(rows[None], defer_commit=defer_commit)
        return Chunk(chunk.frames[0], chunk.index, chunk.timings)

    @property
    def overlaps(self) -> bool:
        """Whether `step_ahead` gains anything: on a GPU."""
        return self._batch.overlaps

    def step_ahead(self, actions: np.ndarray, following: Callable[[], np.ndarray]) -> Chunk:
        """As `step`; and the next chunk is begun, with the rows of `following`, beside the decoding of this one.

        `following` is asked once this chunk is denoised; the next step must get the rows that it gave.
        """
        self._batch.check_open()
        rows = rows_of_step(actions, (self.spec.frames_per_chunk, ROW_WIDTH))
        chunk = self._batch.step_ahead(rows[None], lambda: np.asarray(following())[None])
        return Chunk(chunk.frames[0], chunk.index, chunk.timings)

    def flush_commit(self) -> None:
        """Begin a deferred commit; its time appears in the chunk's timings."""
        self._batch.flush_commit()

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Step through an iterable of single rows (10,); rows that do not fill a last chunk are left unused."""
        for chunk in self._batch.stream(np.asarray(row)[None] for row in rows):
            yield Chunk(chunk.frames[0], chunk.index, chunk.timings)

    def set_prompt(self, prompt: str) -> None:
        """Change the prompt from the next chunk on; the world goes on without a break."""
        self._batch.set_prompt(prompt)

    def set_stream(self, config: StreamConfig) -> None:
        """Denoise as `config` says from the next chunk on: other steps, guidance, window, mode.

        Raises ScopeError for what cannot be changed in a game; nothing has then changed.
        """
        self._batch.set_stream(config)

    @property
    def stream_config(self) -> StreamConfig:
        """How it is denoised now."""
        return self._batch.config

    @property
    def snapshot_nbytes(self) -> int:
        """Bytes that a snapshot takes, known without taking one."""
        return self._batch.snapshot_nbytes

    def snapshot(self, *, on_host: bool = False) -> Snapshot:
        """A copy of this moment, on the model's device or in host memory; `snapshot_nbytes` says what it costs."""
        return self._batch.snapshot(on_host=on_host)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot: the same actions from there give the same frames."""
        self._batch.restore(snapshot)

    def close(self) -> None:
        """Free the session's memory; afterwards it can only be closed again."""
        self._batch.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
