"""What the kernels and their PyTorch twins agree on about shapes, checked the same way on both sides."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from scope_play.kernels.fp8 import Remembered


class Rotation(NamedTuple):
    """cos and sin of rotary angles, float32, (1, n, S or 1, 1, head_dim / 2) for a chunk's tokens."""

    cos: Tensor
    sin: Tensor


class ChunkShape(NamedTuple):
    """A chunk of `latents` latent frames of `tokens` tokens each, over a cache of `slots` slots."""

    batch: int
    latents: int
    tokens: int
    heads: int
    head_dim: int
    slots: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


def chunk_shape(x: Tensor, cache: Tensor, valid: int | None = None, remembered: Remembered | None = None) -> ChunkShape:
    """Sizes of x (B, n, S, C) over cache (B, slots, S or 1, heads, D). Raises ValueError when they do not fit.

    With `remembered` the cache's own slots are the chunk's, and those follow.
    """
    if x.dim() != 4 or cache.dim() != 5:
        raise ValueError(
            "expected a chunk (B, n, S, C) and a cache (B, slots, S, heads, D), "
            f"got {tuple(x.shape)} and {tuple(cache.shape)}"
        )
    shape = ChunkShape(x.shape[0], x.shape[1], x.shape[2], cache.shape[3], cache.shape[4], cache.shape[1])
    if cache.shape[0] != shape.batch or cache.shape[2] not in (1, shape.tokens) or shape.width != x.shape[3]:
        raise ValueError(f"chunk {tuple(x.shape)} does not belong to cache {tuple(cache.shape)}")
    if shape.latents > shape.slots:
        raise ValueError(f"chunk of {shape.latents} latents does not fit the cache's {shape.slots} slots")
    if remembered is not None:
        past = remembered.keys.data.shape
        if past != (shape.batch, past[1], shape.tokens, shape.heads, shape.head_dim):
            raise ValueError(f"chunk {tuple(x.shape)} does not belong to what is remembered, {tuple(past)}")
        shape = shape._replace(slots=shape.latents + past[1])
    if valid is not None and not shape.latents <= valid <= shape.slots:
        raise ValueError(
            f"valid is {valid}, but must lie between the chunk's {shape.latents} and the {shape.slots} slots"
        )
    return shape


def frame_rows(per_frame: Tensor, x: Tensor) -> Tensor:
    """A per-frame vector (B or 1, n or 1, 1, C) seen as (B, n, 1, C), without copying."""
    batch, latents, _, width = x.shape
    if per_frame.dim() != 4 or per_frame.shape[2] != 1 or per_frame.shape[3] != width:
        raise ValueError(f"per-frame tensor {tuple(per_frame.shape)} does not belong to tokens {tuple(x.shape)}")
    return per_frame.expand(batch, latents, 1, width)
