"""The decoder's work on one latent as a recording: some three hundred launches that a GPU then starts by itself.

What the decoder remembers of a video lies at fixed addresses, and is part of the recording; so a recorded decoder
serves one game after the other. The first two latents of a video look back at less and are decoded as written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.model.wan_vae.vae import DecoderStream
from scope_play.runtime.cuda_graph import Recorder

SETTLING = 2
"""Latents after which the decoder remembers all that it ever will."""


class RecordedDecoder:
    """A `CodecStream` that gives what `stream` gives. It must be a new one, and nobody else's."""

    def __init__(self, stream: DecoderStream, latent: Tensor, record: Recorder) -> None:
        """`latent`: one as they will come, (B, C, 1, h, w)."""
        self._stream, self._latent = stream, torch.zeros_like(latent)
        for _ in range(SETTLING):
            stream.push(self._latent)
        self._replay = record(lambda: stream.push(self._latent))
        stream.memory.forget()

    @torch.no_grad()
    def push(self, x: Tensor) -> Tensor:
        """As `DecoderStream.push`."""
        made = [self._decode(latent) for latent in x.split(1, dim=2)]
        return made[0] if len(made) == 1 else torch.cat(made, dim=2)

    def _decode(self, latent: Tensor) -> Tensor:
        if not self._stream.memory.complete or latent.shape != self._latent.shape:
            return self._stream.push(latent)
        self._latent.copy_(latent)
        return self._replay().clone()

    def clone(self, device: torch.device | None = None) -> DecoderStream:
        """A copy that goes its own way, without recordings."""
        return self._stream.clone(device)

    def adopt(self, other: DecoderStream) -> None:
        """Go on from where `other` is."""
        self._stream.memory.adopt(other.memory)

    def forget(self) -> None:
        """Begin another video."""
        self._stream.memory.forget()

    @property
    def nbytes(self) -> int:
        return self._stream.nbytes

    @property
    def idle_bytes(self) -> int:
        """What it holds beside that."""
        return self._stream.memory.spare_nbytes


class Decoders:
    """Those of one model: what idles, and new ones."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._idle: list[RecordedDecoder] = []

    def take(self, stream: DecoderStream, latent: Tensor) -> RecordedDecoder:
        """One that idles, or a new one around `stream`, for latents like `latent`."""
        return self._idle.pop() if self._idle else RecordedDecoder(stream, latent, self._record)

    def give_back(self, decoder: RecordedDecoder) -> None:
        decoder.forget()
        self._idle.append(decoder)

    @property
    def idle_bytes(self) -> int:
        return sum(decoder.idle_bytes for decoder in self._idle)
