"""What a world needs of the parts around its network, whichever family they come from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class CodecStream(Protocol):
    """One direction of a codec along one video, with what it remembers."""

    def push(self, x: Tensor) -> Tensor: ...

    def clone(self, device: torch.device | None = None) -> CodecStream:
        """A copy that goes its own way, with what it remembers on `device` if that is given."""

    @property
    def nbytes(self) -> int: ...


class CodecShape(Protocol):
    @property
    def latent_channels(self) -> int: ...

    def latent_size(self, height: int, width: int) -> tuple[int, int]: ...


class Codec(Protocol):
    """Pixels to latents and back: the Wan2.2 VAE or nano's own."""

    @property
    def config(self) -> CodecShape: ...

    def encoder(self) -> CodecStream: ...

    def decoder(self) -> CodecStream: ...


@runtime_checkable
class ProjectingCodec(Protocol):
    """A codec whose latents have bounds: what a world makes is projected onto them before it is seen and remembered."""

    def project(self, latents: Tensor) -> Tensor: ...


class PromptReader(Protocol):
    """Turns a prompt into the context (1, L, text_dim) of the network's cross-attention."""

    def __call__(self, prompt: str) -> Tensor: ...
