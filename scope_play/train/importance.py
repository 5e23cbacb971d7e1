"""How much each number of a latent matters, by what it does to the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.model.tiny_vae import TinyVAE
from scope_play.train.common import generator

PROBES = 16


def picture_change(codec: TinyVAE, latents: Tensor, seed: int = 0) -> Tensor:
    """(N, C) latents -> (C,): how much the picture's squared error grows with the square of an error in each channel.

    Mean over the latents of the squared columns of the renderer's Jacobian, estimated with random probes (Hutchinson):
    for v of independent standard normal numbers, the mean of (J^T v)^2 is the squared norm of each column of J.
    """
    latents = latents.detach().requires_grad_(True)
    drawn = codec.renderer(latents * codec.feature_std + codec.feature_mean) * codec.picture_std
    draw = generator(seed, "importance", 0)
    total = torch.zeros_like(codec.feature_std)
    for _ in range(PROBES):
        probe = torch.randn(drawn.shape, generator=draw).to(drawn)
        (gradient,) = torch.autograd.grad((drawn * probe).sum(), latents, retain_graph=True)
        total += gradient.square().mean(0)
    return total / PROBES
