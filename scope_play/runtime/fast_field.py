"""The light field for play on a CPU: the same picture, frame by frame, from fewer cells, operations and bytes.

Of every two by two cells one is asked first. Where it and its neighbours are plain and alike, the other three are what
lies between them; where nothing of the hand is near, its layer is not asked for them. A frame's scales and shifts go
into its weights instead of over its cells, of which there are ten times as many as rows in a matrix. Products are of
bfloat16 where the processor has instructions for it. What the hand's layer reads of the places in the picture is the
same for every frame and is worked out once. Frames are drawn side by side, always one at a time, so that what is drawn
does not depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import CELL, Field, LightField, cell_centres, rays, screen, to_pictures

PLAIN, ALIKE = 0.06, 0.08
"""Colours in a cell are plain if no two are further apart, and means of cells alike if they are not. No more than this
can hide between cells that are asked, and it costs no hundredth of a decibel."""
COVERS = 0.02
"""An opacity below this is none, where there is none beside it either."""
BATCH = 240
"""Cells are asked in multiples of so many."""
LANES = 4
"""Frames drawn side by side at most: there are no more in a latent."""
Modulation: TypeAlias = list[tuple[Tensor, Tensor]]
"""Of one frame and each layer of a field: by what its outputs are multiplied, and what is added, (width,) each."""


def fast_drawer(codec: NanoCodec) -> FastField | None:
    """The fast form of the codec's field as it is now, if it is on a CPU and its config has it so."""
    weight = codec.field.court.read.weight
    if not codec.config.half or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    return FastField(codec.field, torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32)


class FastField:
    """Made from a light field in float32 on a CPU, whose weights must not change any more."""

    def __init__(self, field: LightField, dtype: torch.dtype = torch.bfloat16) -> None:
        """`dtype` is that of the products. Even where a ray goes, its short waves tell well enough in bfloat16."""
        self._field, self._dtype = field, dtype
        self._rows, self._columns = (side // CELL for side in field.frame)
        numbers = torch.arange(self._rows * self._columns)
        blocks = rearrange(numbers, "(h two w both) -> (h w) (two both)", two=2, both=2, w=self._columns // 2)
        self._asked, self._others = blocks[:, 0], blocks[:, 1:]
        self._centres = cell_centres(field.frame, torch.device("cpu"))
        read = field.hand.read
        self._places = F.linear(screen(self._centres, field.fine), read.weight, read.bias).detach()
        self._court = self._kept(field.court.write)
        self._colour, self._opacity = (self._kept(part) for part in _apart(field.hand.write))
        self._lanes = min(LANES, max(1, (os.cpu_count() or 1) // torch.get_num_threads()))
        self._pool = ThreadPoolExecutor(self._lanes, "draw")
        self._finish = [self._kept(layer) for layer in (field.finish.read, field.finish.middle, field.finish.write)]

    def __call__(self, features: Tensor, state: Tensor) -> Tensor:
        """Features (N, F) and the same at unit spread -> pictures (N, 3, H, W) in [-1, 1], not clamped."""
        with torch.no_grad():
            modulations = [_modulations(field, state) for field in (self._field.court, self._field.hand)]
        frames = list(zip(features.split(1), *modulations, strict=True))
        if min(self._lanes, len(frames)) == 1:
            return torch.cat([self._frame(*frame) for frame in frames])
        return torch.cat(list(self._pool.map(lambda frame: self._frame(*frame), frames)))

    @torch.no_grad()
    def _frame(self, features: Tensor, court: Modulation, hand: Modulation) -> Tensor:
        cells = self._behind(features, court)
        self._hold(cells, hand)
        picture = rearrange(cells, "(h w) c -> 1 c h w", h=self._rows)
        first, second, last = self._finish
        y = F.gelu(F.conv2d(picture - 0.5, *first, padding=1), approximate="tanh")
        y = F.conv2d(F.gelu(F.conv2d(y, *second, padding=1), approximate="tanh"), *last, padding=1)
        finished = rearrange(picture.float() + y.float(), "n c h w -> n (h w) c")
        return to_pictures(finished, self._field.frame) * 2 - 1

    def _behind(self, features: Tensor, modulation: Modulation) -> Tensor:
        """Colours of all cells of the court (P, 3 CELL CELL)."""
        field = self._field
        layers = self._folded([field.court.read, *field.court.hidden], modulation)

        def ask(cells: Tensor) -> Tensor:
            asked = rays(features, self._centres[cells], field.camera, field.fine)[0].to(self._dtype)
            return F.linear(_through(asked, layers), *self._court)

        asked = ask(self._asked)
        around = _neighbours(rearrange(asked, "(h w) c -> h w c", h=self._rows // 2))
        between = [(around[0] + around[1]) / 2, (around[0] + around[2]) / 2, around.mean(0)]
        pixels = rearrange(around, "four h w (pixel rgb) -> four h w pixel rgb", rgb=3)
        contrast, mean = pixels.amax(3) - pixels.amin(3), pixels.mean(3)
        plain = (contrast.amax((0, 3)) < PLAIN) & ((mean.amax(0) - mean.amin(0)).amax(-1) < ALIKE)
        plain[-1], plain[:, -1] = False, False  # beyond the picture's border nothing was asked
        cells = asked.new_empty(len(self._centres), asked.shape[1])
        cells[self._asked] = asked
        cells[self._others] = rearrange(torch.stack(between, 2), "h w three c -> (h w) three c")
        rest = self._others[~plain.flatten()].flatten()
        if len(rest) > 0:
            rest = _in_batches(rest)
            cells[rest] = ask(rest)
        return cells

    def _hold(self, cells: Tensor, modulation: Modulation) -> None:
        """Put the hand's layer over the court's cells (P, 3 CELL CELL)."""
        (scale, shift), *rest = modulation
        layers = self._folded(self._field.hand.hidden, rest)

        def cover(some: Tensor) -> Tensor:
            x = torch.addcmul(shift, self._places[some], scale).relu_().to(self._dtype)
            x = _through(x, layers)
            opacity = F.linear(x, *self._opacity).sigmoid_()
            cells[some] = torch.lerp(cells[some], F.linear(x, *self._colour), opacity)
            return opacity

        shows = rearrange(cover(self._asked).amax(-1), "(h w) -> 1 h w", h=self._rows // 2)
        near = F.max_pool2d(shows, 3, 1, 1).flatten() > COVERS
        if near.any():
            cover(_in_batches(self._others[near].flatten()))

    def _folded(self, layers: Iterable[nn.Module], modulation: Modulation) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of layers that multiply and add as a frame's modulation says."""
        folded = []
        for layer, (scale, shift) in zip(layers, modulation, strict=True):
            weight, bias = layer.parameters()
            folded.append(
                ((weight * scale[:, None]).to(self._dtype), torch.addcmul(shift, bias, scale).to(self._dtype))
            )
        return folded

    def _kept(self, layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
        weight, bias = (part.detach().to(self._dtype) for part in layer.parameters())
        return (weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight), bias


def _in_batches(cells: Tensor) -> Tensor:
    """The cells, and the last one again until they are whole batches: PyTorch keeps what it has prepared for every
    number of rows that it has multiplied, and thousands of those fill a gigabyte."""
    return torch.cat([cells, cells[-1:].expand(-len(cells) % BATCH)])


def _modulations(field: Field, state: Tensor) -> list[Modulation]:
    """Of states (N, S), one by one."""
    every = rearrange(
        field.modulation(field.state(state)), "n (layers two width) -> n layers two width",
        two=2, width=field.read.out_features,
    )  # fmt: skip
    return [[(1 + scale, shift) for scale, shift in layers] for layers in every]


def _through(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    for weight, bias in layers:
        x = F.linear(x, weight, bias).relu_()
    return x


def _neighbours(blocks: Tensor) -> Tensor:
    """(h, w, c) -> (4, h, w, c): each, the one to its right, the one below and the one beyond; the last ones repeat."""
    right = torch.cat([blocks[:, 1:], blocks[:, -1:]], 1)
    below, beyond = (torch.cat([some[1:], some[-1:]], 0) for some in (blocks, right))
    return torch.stack([blocks, right, below, beyond])


def _apart(write: nn.Linear) -> tuple[nn.Linear, nn.Linear]:
    """The last layer of the hand as one for colours and one for opacities, each of these three times, once a colour."""
    weight = rearrange(write.weight.detach(), "(pixel four) inner -> pixel four inner", four=4)
    bias = rearrange(write.bias.detach(), "(pixel four) -> pixel four", four=4)
    layers = []
    for weights, biases in ((weight[:, :3], bias[:, :3]), (weight[:, 3:], bias[:, 3:])):
        layer = nn.Linear(write.in_features, 3 * CELL**2)
        rgb = 3 // weights.shape[1]
        layer.weight.data = repeat(weights, "pixel c inner -> (pixel c rgb) inner", rgb=rgb)
        layer.bias.data = repeat(biases, "pixel c -> (pixel c rgb)", rgb=rgb)
        layers.append(layer)
    return layers[0], layers[1]
