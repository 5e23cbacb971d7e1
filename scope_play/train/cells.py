"""Which cells of which pictures an autoencoder learns from in a step, and how far off it is there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scope_play.model.nano_codec.light_field import CELL, REACH


def windows(
    frame: tuple[int, int], window: tuple[int, int], count: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cells (count, P) of windows of `window` rows and columns of cells, anywhere in the picture, and bool (count, P):
    of which of them the finish sees all that it would see in the whole picture."""
    first, held = [], []
    for side, length in zip(frame, window, strict=True):
        room = side // CELL - length
        # Further than there is room, so that the picture's borders come as often as its middle.
        begin = torch.randint(-length // 2, room + length // 2 + 1, (count,), generator=draw, device=draw.device)
        begin = begin.clamp(0, room)
        along = torch.arange(length, device=draw.device).expand(count, -1)
        whole = (along >= REACH) | (begin == 0)[:, None]
        held.append(whole & ((along < length - REACH) | (begin == room)[:, None]))
        first.append(begin[:, None] + along)
    rows, columns = first
    cells = rows[:, :, None] * (frame[1] // CELL) + columns[:, None]
    return cells.flatten(1), (held[0][:, :, None] & held[1][:, None]).flatten(1)


def at_cells(pictures: Tensor, cells: Tensor) -> Tensor:
    """(N, every cell, 48) at (N, P) -> (N, P, 48)."""
    return pictures.gather(1, cells[..., None].expand(-1, -1, pictures.shape[-1]))


def colours(levels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return levels.float() / 255


def unusual(state: Tensor) -> Tensor:
    """States at unit spread (N, F) -> (N,): their mean square, about 1 on average, in float64.

    Something that goes on in one frame of fifty lies seven spreads from the mean, so such frames, taken by this, are as
    frequent as the rest.
    """
    return state.double().square().mean(1)


def psnr(squared_error: Tensor) -> float:
    """Decibels, for errors of values in [-1, 1]."""
    return -10 * math.log10(float(squared_error.mean()) / 4 + 1e-12)
