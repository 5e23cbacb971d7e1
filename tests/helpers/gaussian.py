"""Networks of one number a channel whose best velocity is known: latents are Gaussian, each entry for itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scope_play.train.methods.batch import ClipBatch
from scope_play.train.rollout import Played, noise_like


class Gaussian(nn.Module):
    """The velocity that flow matching of entries N(mean, spread^2) ends at; both are parameters."""

    def __init__(self, mean: float, spread: float) -> None:
        super().__init__()
        self.mean, self.log_spread = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(spread).log())

    def forward(self, x: Tensor, timesteps: Tensor, **told: Any) -> Tensor:
        sigma = (timesteps / 1000)[:, None, :, None, None].clamp_min(1e-3)
        variance = (2 * self.log_spread).exp()
        gain = (1 - sigma) * variance / ((1 - sigma) ** 2 * variance + sigma**2)
        return (x - (self.mean + gain * (x - (1 - sigma) * self.mean))) / sigma


class Affine(nn.Module):
    """Predicts the clean value a x + b, with numbers of their own for each of the levels it is asked at."""

    def __init__(self, levels: list[float]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor([*levels, 0.0]))
        self.a, self.b = (nn.Parameter(torch.full((len(levels) + 1,), value)) for value in (0.5, 0.0))

    def forward(self, x: Tensor, timesteps: Tensor, **told: Any) -> Tensor:
        sigma = timesteps / 1000
        at = (sigma[..., None] - self.levels).abs().argmin(-1)
        a, b = (part[at][:, None, :, None, None] for part in (self.a, self.b))
        return (x - (a * x + b)) / sigma.clamp_min(1e-3)[:, None, :, None, None]


class Drawn:
    """A source of latents N(mean, spread^2), (B, 1, latents, 2, 2), each sample its own."""

    def __init__(self, mean: float, spread: float) -> None:
        self.mean, self.spread = mean, spread

    def batch(self, samples: range, latents: int, step: int) -> ClipBatch:
        drawn = [
            torch.randn(1, 1, latents, 2, 2, generator=torch.Generator().manual_seed(1000 * step + n)) for n in samples
        ]
        count = len(samples)
        rows = torch.zeros(count, 4 * (latents - 1), 10)
        return ClipBatch(self.mean + self.spread * torch.cat(drawn), rows[..., :6], rows[..., 6:])


def play_affine(network: nn.Module, batch: ClipBatch, *, sigmas: list[float], window: int, draw: Any) -> Played:
    """One step from noise, without caches."""
    noisy = noise_like(batch.latents[:, :, 1:].shape, draw, batch.latents.device)
    with torch.no_grad():
        made = noisy - network(noisy, torch.full((len(noisy), noisy.shape[2]), 1000.0))
    return Played(torch.cat([batch.first, made], 2), noisy)
