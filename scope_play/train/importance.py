"""How much each number of a latent matters, by what it does to the picture."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import CELL
from scope_play.train.loop import generator

PROBES = 8
CELLS = 60
"""Cells looked at in each frame; more would say the same."""


def picture_change(codec: NanoCodec, latents: Tensor, seed: int = 0) -> Tensor:
    """(N, C) latents -> (C,): how much a frame's squared error grows with the square of an error in each channel.

    Mean over the latents of the squared columns of the decoder's Jacobian, estimated with random probes (Hutchinson):
    for v of independent standard normal numbers, the mean of (J^T v)^2 is the squared norm of each column of J.
    """
    height, width = codec.config.frame
    every = height * width // CELL**2
    looked = min(CELLS, every)
    latents = latents.detach().requires_grad_(True)
    features = rearrange(codec.to_features(latents), "n (t f) -> (n t) f", t=4)
    draw = generator(seed, "importance", 0)
    cells = torch.rand(len(features), every, generator=draw).argsort(1)[:, :looked].to(latents.device)
    state = codec.state(features)
    drawn = codec.field.over(codec.field.behind(features, state, cells), state, cells)
    total = torch.zeros_like(codec.feature_std)
    for _ in range(PROBES):
        probe = torch.randn(drawn.shape, generator=draw).to(drawn)
        (gradient,) = torch.autograd.grad((drawn * probe).sum(), latents, retain_graph=True)
        total += gradient.square().mean(0)
    return total * (every / looked / PROBES)
