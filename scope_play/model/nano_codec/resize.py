"""The same codec for frames of another size, to train on from there.

A field knows rays and places, not pixels: it can be asked for the cells of a larger picture as it is. Each of them is
as many pixels of a smaller piece of what it was taught; only its last layer has to say them closer together.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.model.nano_codec.light_field import CELL

FINE = (12, 16, 24, 32)
"""Short waves for a larger picture; they mean nothing until something is learned of them."""


def resize_config(config: NanoCodecConfig, frame: tuple[int, int], fine: tuple[int, ...] = FINE) -> NanoCodecConfig:
    """Sizes of a codec that draws `frame` (height, width) and finds in it what that of `config` finds."""
    if config.fine:
        raise ValueError(f"a codec with short waves {config.fine} has been resized before; begin with another")
    return replace(config, frame=frame, seen=config.finder_frame, fine=fine, half=True)


def resize_codec(codec: NanoCodec, frame: tuple[int, int], fine: tuple[int, ...] = FINE) -> NanoCodec:
    """A codec that draws `frame` (height, width) with the weights of `codec`, whose finder goes on to see what it saw.

    Colours of the court begin as an interpolation of the smaller picture's; the hand's layer was taught at the places
    of the old cells alone and has to learn what lies between them.
    """
    if frame == codec.config.frame:
        return codec
    resized = NanoCodec(resize_config(codec.config, frame, fine))
    weights = codec.state_dict()
    for name in ("field.court.read.weight", "field.hand.read.weight"):
        weights[name] = F.pad(weights[name], (0, resized.get_parameter(name).shape[1] - weights[name].shape[1]))
    resized.load_state_dict(weights)
    scale = codec.config.frame[0] / frame[0]
    with torch.no_grad():
        for field, channels in ((resized.field.court, 3), (resized.field.hand, 4)):
            _respace(field.write, channels, scale)
    return resized


def _respace(write: nn.Linear, channels: int, scale: float) -> None:
    """Make a layer whose outputs are a cell's pixels give those of a cell `scale` times as large about its middle."""
    between = spacing(scale).to(write.weight)
    both = rearrange(einsum(between, between, "p i, q j -> p q i j"), "p q i j -> (p q) (i j)")
    weight = rearrange(write.weight, "(pixel c) inner -> pixel c inner", c=channels)
    write.weight.copy_(rearrange(einsum(both, weight, "p i, i c inner -> p c inner"), "p c inner -> (p c) inner"))
    bias = rearrange(write.bias, "(pixel c) -> pixel c", c=channels)
    write.bias.copy_(rearrange(einsum(both, bias, "p i, i c -> p c"), "p c -> (p c)"))


def spacing(scale: float) -> Tensor:
    """(CELL, CELL): how much each old pixel counts in each new one along one side, linearly between the nearest."""
    middle = (CELL - 1) / 2
    places = middle + (torch.arange(CELL) - middle) * scale
    return (1 - (places[:, None] - torch.arange(CELL)).abs()).clamp_min(0)
