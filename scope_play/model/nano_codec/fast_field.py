"""The light field for play on a CPU: the same picture, frame by frame, in fewer operations and half the bytes.

A frame's scales and shifts go into its weights instead of over its cells, of which there are ten times as many as rows
in a matrix. Products are of bfloat16 where the processor has instructions for it. What the hand's layer reads of the
places in the picture is the same for every frame and is worked out once. Frames are drawn side by side, always one at a
time, so that what is drawn does not depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from scope_play.model.nano_codec.light_field import CELL, Field, LightField, cell_centres, rays, screen, to_pictures

LANES = 4
"""Frames drawn side by side at most: there are no more in a latent."""
Modulation = list[tuple[Tensor, Tensor]]
"""Of one frame and each layer of a field: by what its outputs are multiplied, and what is added, (width,) each."""


class FastField:
    """Made from a light field in float32 on a CPU, whose weights must not change any more."""

    def __init__(self, field: LightField, dtype: torch.dtype = torch.bfloat16) -> None:
        """`dtype` is that of the products. Even where a ray goes, its short waves tell well enough in bfloat16."""
        self._field, self._dtype = field, dtype
        self._rows = field.frame[0] // CELL
        self._centres = cell_centres(field.frame, torch.device("cpu"))
        read = field.hand.read
        self._places = F.linear(screen(self._centres, field.fine), read.weight, read.bias).detach()
        self._court = self._kept(field.court.write)
        self._colour, self._opacity = (self._kept(part) for part in _apart(field.hand.write))
        self._finish = [self._kept(layer) for layer in (field.finish.read, field.finish.middle, field.finish.write)]

    def __call__(self, features: Tensor, state: Tensor) -> Tensor:
        """Features (N, F) and the same at unit spread -> pictures (N, 3, H, W) in [-1, 1], not clamped."""
        with torch.no_grad():
            modulations = [_modulations(field, state) for field in (self._field.court, self._field.hand)]
        frames = list(zip(features.split(1), *modulations, strict=True))
        lanes = min(LANES, len(frames), max(1, (os.cpu_count() or 1) // torch.get_num_threads()))
        if lanes == 1:
            return torch.cat([self._frame(*frame) for frame in frames])
        with ThreadPoolExecutor(lanes, "draw") as pool:
            return torch.cat(list(pool.map(lambda frame: self._frame(*frame), frames)))

    @torch.no_grad()
    def _frame(self, features: Tensor, court: Modulation, hand: Modulation) -> Tensor:
        field = self._field
        asked = rays(features, self._centres, field.camera, field.fine)[0].to(self._dtype)
        behind = F.linear(_through(asked, [field.court.read, *field.court.hidden], court), *self._court)
        (scale, shift), *rest = hand
        x = torch.addcmul(shift, self._places, scale).relu_().to(self._dtype)
        x = _through(x, field.hand.hidden, rest)
        cells = torch.lerp(behind, F.linear(x, *self._colour), F.linear(x, *self._opacity).sigmoid_())
        picture = rearrange(cells, "(h w) c -> 1 c h w", h=self._rows)
        first, second, last = self._finish
        y = F.gelu(F.conv2d(picture - 0.5, *first, padding=1), approximate="tanh")
        y = F.conv2d(F.gelu(F.conv2d(y, *second, padding=1), approximate="tanh"), *last, padding=1)
        finished = rearrange(picture.float() + y.float(), "n c h w -> n (h w) c")
        return to_pictures(finished, field.frame) * 2 - 1

    def _kept(self, layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
        weight, bias = (part.detach().to(self._dtype) for part in layer.parameters())
        return (weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight), bias


def _modulations(field: Field, state: Tensor) -> list[Modulation]:
    """Of states (N, S), one by one."""
    every = rearrange(
        field.modulation(field.state(state)), "n (layers two width) -> n layers two width",
        two=2, width=field.read.out_features,
    )  # fmt: skip
    return [[(1 + scale, shift) for scale, shift in layers] for layers in every]


def _through(x: Tensor, layers: Iterable[nn.Module], modulation: Modulation) -> Tensor:
    for layer, (scale, shift) in zip(layers, modulation, strict=True):
        weight, bias = layer.parameters()
        x = F.linear(x, (weight * scale[:, None]).to(x.dtype), torch.addcmul(shift, bias, scale).to(x.dtype)).relu_()
    return x


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
