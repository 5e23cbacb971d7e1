"""Running worlds in step: what must be kept from one chunk to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scope_play.actions import ROW_WIDTH, WINDOW_ROWS
from scope_play.errors import ScopeError
from scope_play.images import Image
from scope_play.model.dit.block import TextKV
from scope_play.runtime.recorded_decoder import RecordedDecoder
from scope_play.sampling.stream import Stream, StreamState, latent_noise
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.codec import CodecStream
from scope_play.session.frame_transfer import make_transfer, to_device
from scope_play.session.interfaces import Chunk
from scope_play.session.loaded_model import LoadedModel
from scope_play.session.rows import behind_history, rows_of_step, windows_of


@dataclass(frozen=True)
class ReadText:
    """A prompt as the network sees it, for every session of the batch."""

    prompt: str | None
    text: list[TextKV] | None
    negative: list[TextKV] | None


@dataclass(frozen=True)
class Snapshot:
    """Everything a session is at one chunk. `nbytes` of memory on the model's device."""

    index: int
    stream: StreamState
    decoder: CodecStream
    rows: np.ndarray
    prompt: str | None
    config: StreamConfig

    @property
    def nbytes(self) -> int:
        return self.stream.nbytes + self.decoder.nbytes


class _Begun(NamedTuple):
    """A chunk that is in flight already: its rows (B, frames_per_chunk, 10), those with history, its latents."""

    rows: np.ndarray
    joined: np.ndarray
    latents: Tensor


class SessionBatch:
    """B sessions of one model stepping together. `Session` is the case of one; see there."""

    def __init__(
        self, model: LoadedModel, images: Sequence[Image | None], prompt: str | None, seeds: Sequence[int]
    ) -> None:
        if len(images) != len(seeds) or not seeds:
            raise ScopeError(f"{len(images)} start images were given for {len(seeds)} seeds; give one for each")
        self.model = model
        self.seeds = [int(seed) for seed in seeds]
        self.index = 0
        self.prompt = prompt
        self.first_frames = np.stack([model.fit_image(image) for image in images])
        self._rows = np.zeros((len(seeds), 0, ROW_WIDTH), np.float32)
        self._uncommitted: dict[str, float] | None = None
        """The timings of a chunk whose latents are not in the caches yet."""
        self._drawn: tuple[int, Tensor] | None = None
        """A chunk's number and the noise it starts from."""
        self._begun: _Begun | None = None
        self._half_decoded = False
        self._transfer = make_transfer(model.device)
        self._closed = False
        self.config = model.stream
        self._decoder = model.open_decoder(model.first_latent(self.first_frames))
        self._text: ReadText | None = self._read(prompt)
        """Until the stream is opened."""
        self._opened: Stream | None = None

    def step(self, actions: np.ndarray, *, defer_commit: bool = False) -> Chunk:
        """Take rows (B, frames_per_chunk, 10), give frames (B, frames_per_chunk, H, W, 3).

        With `defer_commit` the frames come before the caches are written, and the caller calls `flush_commit` at
        leisure; the numbers are the same. A step that raises has changed nothing and can be asked for again (the commit
        of the chunk before may then be rounded otherwise), unless a decoder with memory had begun its work: then a
        `restore` must come first.
        """
        joined = self._launch(actions)
        timings: dict[str, float] = {}
        drawn = None if defer_commit else self._commit(timings, self.index + 1)
        frames, seconds = self._transfer.take()
        timings.update(seconds)
        if not defer_commit:
            self._transfer.finish()
        self._uncommitted, self._drawn, self._half_decoded = timings if defer_commit else None, drawn, False
        self._rows, self.index = joined[:, -WINDOW_ROWS:], self.index + 1
        return Chunk(frames, self.index - 1, timings)

    @property
    def overlaps(self) -> bool:
        """Whether `step_ahead` gains anything: on a GPU."""
        return self._transfer.overlaps and self._stream.can_set_aside

    def step_ahead(self, actions: np.ndarray, following: Callable[[], np.ndarray]) -> Chunk:
        """As `step`; and the chunk after it is begun while this one's frames are decoded.

        `following` gives that one's rows, to be given to the next step too. It is asked when they can be used, which is
        when this chunk is denoised. After a `set_prompt` or `set_stream` that chunk is denoised anew. If this raises, a
        `restore` must come first. Where nothing overlaps it is a `step` with `defer_commit`, and nobody is asked.
        """
        if not self.overlaps:
            return self.step(actions, defer_commit=True)
        joined = self._launch(actions)
        self._half_decoded = True
        self._transfer.await_denoised()
        after = self._check(following())
        timings: dict[str, float] = {}
        self._drawn = self._commit(timings, self.index + 1)
        begun = _Begun(after, *self._denoise(after, joined[:, -WINDOW_ROWS:], self.index + 1))
        frames, seconds = self._transfer.take()
        timings.update(seconds)
        self._begun, self._half_decoded = begun, False
        self._rows, self.index = joined[:, -WINDOW_ROWS:], self.index + 1
        return Chunk(frames, self.index - 1, timings)

    def _check(self, actions: np.ndarray) -> np.ndarray:
        return rows_of_step(actions, (len(self.seeds), self.model.spec.frames_per_chunk, ROW_WIDTH))

    def _launch(self, actions: np.ndarray) -> np.ndarray:
        """Denoise a chunk, unless it was begun with these very rows, and begin to decode it. Its rows, with history."""
        self.check_open()
        if self._half_decoded:
            raise ScopeError("the chunk before was decoded halfway; restore a snapshot, or start a new session")
        rows = self._check(actions)
        self.flush_commit()
        begun, self._begun = self._begun, None
        if begun is not None and np.array_equal(begun.rows, rows):
            joined, latents = begun.joined, begun.latents
        else:
            joined, latents = self._denoise(rows, self._rows, self.index)
        self._half_decoded = self._decoder.nbytes > 0
        with torch.inference_mode():
            self._transfer.decode(latents.to(self.model.dtype), lambda x: self._decoder.push(x).float())
        return joined

    def _denoise(self, rows: np.ndarray, history: np.ndarray, index: int) -> tuple[np.ndarray, Tensor]:
        """Chunk `index`: its rows behind those of `history`, and its latents."""
        self._transfer.begin()
        drawn = self._drawn
        noise = drawn[1] if drawn is not None and drawn[0] == index else self._draw(index)
        joined = behind_history(rows, history, index, self.model.network.config.action)
        latents = self._stream.denoise(noise, windows_of(joined, self.model))
        self._transfer.denoised()
        return joined, latents

    def _forget_begun(self) -> None:
        if self._begun is not None:
            self._begun = None
            self._stream.set_aside()

    def flush_commit(self) -> None:
        """Begin a deferred commit, and draw the next chunk's noise beside it; without one, do nothing."""
        if self._uncommitted is None:
            return
        self._drawn = self._commit(self._uncommitted, self.index)
        self._uncommitted = None

    def stream(self, rows: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Step through an iterable of single rows (B, 10); rows that do not fill a last chunk are left unused."""
        waiting: list[np.ndarray] = []
        for row in rows:
            waiting.append(np.asarray(row))
            if len(waiting) == self.model.spec.frames_per_chunk:
                yield self.step(np.stack(waiting, axis=-2))
                waiting = []

    def set_prompt(self, prompt: str) -> None:
        """Change the prompt from the next chunk on; the world goes on without a break.

        It is read here and now, and what the caches hold is made again under it, so that the old prompt does not
        linger: a prompt for which that cannot be done raises, and the one before stays.
        """
        self.check_open()
        text = self._read(prompt)
        self.flush_commit()
        self._forget_begun()
        self._take_text(text)

    def set_stream(self, config: StreamConfig) -> None:
        """Denoise as `config` says from the next chunk on; what is remembered is made again where that asks for it.

        Raises ScopeError, and whatever memory that is not there raises; nothing has then changed.
        """
        self.check_open()
        if config.chunk != self.config.chunk:
            raise ScopeError("the length of a chunk is part of the game; load the model again to change it")
        self.flush_commit()
        self._forget_begun()
        text = self._read(self.prompt, config)
        before, stream = self._opened, self._open(config, text)
        if before is not None:
            try:
                stream.recall(before.past)
            except BaseException:
                stream.close()
                raise
            before.close()
        self._opened, self.config, self._text = stream, config, None

    @property
    def snapshot_nbytes(self) -> int:
        """Bytes that a snapshot takes, known without taking one."""
        return self._stream.nbytes + self._decoder.nbytes

    def snapshot(self, *, on_host: bool = False) -> Snapshot:
        """A copy of this moment, to `restore` later in this session or in another one of the same start.

        It lies on the model's device, or in host memory.
        """
        self.check_open()
        self.flush_commit()
        decoder = self._decoder.clone(torch.device("cpu") if on_host else None)
        aside = self._stream.set_aside() if self._begun is not None else None
        try:
            stream = self._stream.snapshot(on_host=on_host)
        finally:
            if aside is not None:
                self._stream.take_up(aside)
        return Snapshot(self.index, stream, decoder, self._rows, self.prompt, self.config)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot: the same actions from there give the same frames."""
        self.check_open()
        recorded = self._decoder if isinstance(self._decoder, RecordedDecoder) else None
        decoder = snapshot.decoder.clone(self.model.device) if recorded is None else recorded
        if snapshot.config != self.config:
            self._close_stream()
            self._opened = self.model.open_stream(self.model.first_latent(self.first_frames), snapshot.config)
            self.config = snapshot.config
        self._stream.restore(snapshot.stream)
        if recorded is not None:
            recorded.adopt(snapshot.decoder)  # type: ignore[arg-type]  # a session's own codec made it
        self._begun = None
        self._uncommitted, self._half_decoded, self._decoder = None, False, decoder
        self._rows, self.index = snapshot.rows, snapshot.index
        self.prompt = snapshot.prompt

    def close(self) -> None:
        """Free the session's memory; afterwards it can only be closed again."""
        self._closed = True
        self._uncommitted = self._begun = None
        self._close_stream()
        decoder = self.__dict__.pop("_decoder", None)
        if decoder is not None:
            self.model.close_decoder(decoder)

    @property
    def _stream(self) -> Stream:
        """Opened when it is first asked for: a game that is denoised otherwise than the model was loaded never opens
        the model's own, whose cache and recordings cost memory and time."""
        if self._opened is None:
            self._opened = self._open(self.config, self._text or self._read(self.prompt))
            self._text = None
        return self._opened

    def _open(self, config: StreamConfig, text: ReadText) -> Stream:
        stream = self.model.open_stream(self.model.first_latent(self.first_frames), config)
        try:
            stream.set_text(text.text, text.negative)
        except BaseException:
            stream.close()
            raise
        return stream

    def _close_stream(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _read(self, prompt: str | None, config: StreamConfig | None = None) -> ReadText:
        text = self.model.text_keys(prompt)
        negative = None
        if text is not None and (config or self.config).guidance != 1:
            negative = self.model.text_keys(self.model.negative_prompt)
        return ReadText(prompt, self._for_all(text), self._for_all(negative))

    def _take_text(self, read: ReadText) -> None:
        self._stream.set_text(read.text, read.negative)
        self.prompt = read.prompt

    def _for_all(self, text: list[TextKV] | None) -> list[TextKV] | None:
        if text is None:
            return None
        return [kv.expand(len(self.seeds)) for kv in text]

    def _commit(self, timings: dict[str, float], following: int) -> tuple[int, Tensor]:
        """Commit the chunk in flight, and draw the noise of the one that follows, by its number, beside it."""
        self._transfer.commit(self._stream.commit, timings)
        return following, self._draw(following)

    def _draw(self, chunk: int) -> Tensor:
        """The noise of a chunk, a function of the seeds and its number alone."""
        spec, codec = self.model.spec, self.model.codec.config
        shape = (codec.latent_channels, 1, *codec.latent_size(spec.height, spec.width))
        first = 1 + chunk * spec.stream.chunk
        latents = range(first, first + spec.stream.chunk)
        noise = torch.stack([torch.cat([latent_noise(seed, i, shape) for i in latents], 1) for seed in self.seeds])
        return to_device(noise * self.model.network.config.noise_scale, self.model.device, self.model.dtype)

    def check_open(self) -> None:
        if self._closed:
            raise ScopeError("this session is closed; start a new one with world.start()")

    def __enter__(self) -> SessionBatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
