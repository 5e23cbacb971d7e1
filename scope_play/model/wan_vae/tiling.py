"""Overlapping spatial tiles, blended with linear ramps, for frames too large to encode or decode at once.

Sizes are in latent cells. Source: SPEC.md section 5, "Tiling". Two faults of the reference are not reproduced: tiles
that touch without overlap (stride equal to size) work, and the tile size does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scope_play.errors import ScopeError


@dataclass(frozen=True)
class Tiling:
    """Tile height and width and the steps between tiles, in latent cells (16 pixels each)."""

    size: tuple[int, int] = (30, 52)
    stride: tuple[int, int] = (15, 26)

    def __post_init__(self) -> None:
        if not all(0 < stride <= size for size, stride in zip(self.size, self.stride, strict=True)):
            raise ScopeError(
                f"VAE tiling: stride {self.stride} must lie between 1 and the tile size {self.size} along each axis; "
                f"a larger stride would leave gaps."
            )


@dataclass(frozen=True)
class Span:
    """A tile along one axis: latent cells [start, stop) out of `length`."""

    start: int
    stop: int
    length: int

    def weights(self, border: int, scale: int) -> Tensor:
        """1 inside, a linear ramp over `border` cells on each side that is not an edge of the frame."""
        weights = torch.ones((self.stop - self.start) * scale)
        ramp = torch.arange(1, border * scale + 1) / max(border * scale, 1)
        if self.start > 0:
            weights[: len(ramp)] = ramp
        if self.stop < self.length:
            weights[len(weights) - len(ramp) :] = ramp.flip(0)
        return weights


@dataclass(frozen=True)
class Tile:
    """A rectangle of latent cells."""

    rows: Span
    columns: Span

    def crop(self, x: Tensor, scale: int = 1) -> Tensor:
        """The tile's part of `x` (..., H, W), whose cells are `scale` samples wide."""
        rows = slice(self.rows.start * scale, self.rows.stop * scale)
        return x[..., rows, self.columns.start * scale : self.columns.stop * scale]

    def weights(self, tiling: Tiling, scale: int) -> Tensor:
        """(h, w) blending weights: the smaller of the row's and the column's."""
        rows = self.rows.weights(tiling.size[0] - tiling.stride[0], scale)
        columns = self.columns.weights(tiling.size[1] - tiling.stride[1], scale)
        return torch.minimum(rows[:, None], columns[None, :])


def spans(length: int, size: int, stride: int) -> list[Span]:
    """Tiles along one axis, starting at multiples of `stride`, until one reaches the end; the last may be short."""
    starts = [start for start in range(0, length, stride) if start == 0 or start - stride + size < length]
    return [Span(start, min(start + size, length), length) for start in starts]


def cover(height: int, width: int, tiling: Tiling) -> list[Tile]:
    """The tiles of a `height` x `width` latent frame."""
    rows = spans(height, tiling.size[0], tiling.stride[0])
    columns = spans(width, tiling.size[1], tiling.stride[1])
    return [Tile(row, column) for row in rows for column in columns]


def blend_tiles(tiles: Sequence[Tile], tiling: Tiling, compute: Callable[[Tile], Tensor], scale: int) -> Tensor:
    """Weighted mean of the tiles' results, each `scale` samples per latent cell: (..., scale * H, scale * W)."""
    total = weight_sum = torch.empty(0)
    for tile in tiles:
        values = compute(tile)
        if not total.numel():
            size = (tile.rows.length * scale, tile.columns.length * scale)
            total = values.new_zeros(*values.shape[:-2], *size)
            weight_sum = values.new_zeros(size)
        weights = tile.weights(tiling, scale).to(values)
        tile.crop(total, scale).add_(values * weights)
        tile.crop(weight_sum, scale).add_(weights)
    return total.div_(weight_sum)
