"""The last moments drawn, where the training can pick from them at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from scope_play.model.nano_codec.light_field import to_cells
from scope_play.train.data.ahead import Ahead
from scope_play.train.data.sources import MomentSource


@dataclass(frozen=True)
class Pooled:
    """Of N moments: pictures with and without weapon and HUD as cells, uint8 (N, cells, 48), features (N, F), and how
    far apart the colours within each cell of either picture are, uint8 (N, cells)."""

    frames: Tensor
    court: Tensor
    features: Tensor
    frames_contrast: Tensor
    court_contrast: Tensor


class Pool:
    """About `size` moments on `device`, of which every step replaces the `fresh` oldest. What is in it at a step, and
    where, depends on the step alone."""

    def __init__(
        self, source: MomentSource, fresh: int, size: int, device: torch.device | str = "cpu", workers: int = 0
    ) -> None:
        self._draw = Ahead(source.moments, workers)
        self._fresh, self._device = fresh, device
        self._numbers: list[int | None] = [None] * max(1, size // fresh)
        self._held: list[Tensor] = []

    def at(self, step: int) -> Pooled:
        """Those of as many draws as there is room for; `step` counts the first of them."""
        room = len(self._numbers)
        for number in range(step, step + room + self._draw.depth):
            if number >= step + room or self._numbers[number % room] != number:
                self._draw.prepare(*self._asked(number))
        for number in range(step, step + room):
            if self._numbers[number % room] != number:
                self._replace(number % room, self._asked(number))
                self._numbers[number % room] = number
        return Pooled(*self._held)

    def _asked(self, number: int) -> tuple[int, str, int]:
        return self._fresh, "autoencoder", number

    def _replace(self, place: int, asked: tuple[int, str, int]) -> None:
        drawn = self._draw(*asked)
        pictures = [torch.from_numpy(drawn_pictures) for drawn_pictures in (drawn.frames, drawn.court)]
        parts = [to_cells(some.to(self._device)) for some in pictures]
        parts += [torch.from_numpy(drawn.features).to(self._device), *(contrast(some) for some in parts)]
        if not self._held:
            size = len(self._numbers) * self._fresh
            self._held = [torch.zeros(size, *part.shape[1:], dtype=part.dtype, device=self._device) for part in parts]
        here = slice(place * self._fresh, (place + 1) * self._fresh)
        for whole, part in zip(self._held, parts, strict=True):
            whole[here] = part


def contrast(cells: Tensor) -> Tensor:
    """Colours of cells (N, P, 3 CELL CELL), uint8 -> the largest range of red, green or blue in each (N, P)."""
    pixels = rearrange(cells, "n p (pixel rgb) -> n p pixel rgb", rgb=3)
    return (pixels.amax(2) - pixels.amin(2)).amax(-1)
