"""Flow matching under teacher forcing: a bidirectional network learns to go on from clean latents before it.

Each latent has a noise level of its own and sees the clean ones within the window before it: one pass trains all of
them, with the mask that streaming has. Source: CausVid (arXiv 2412.07772), LongLive (arXiv 2509.22622).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.method import STUDENT, Losses
from scope_play.train.methods.passes import drawn_levels, mixed, noise_for, teacher_forced


@dataclass(frozen=True)
class Causal:
    """`context_noise` is the highest level of noise on the clean latents: a player's own are never quite clean.
    `lowest`: see Flow."""

    window: int = 12
    shift: float = 5.0
    context_noise: float = 0.0
    text_dropout: float = 0.1
    action_dropout: float = 0.1
    no_text: Tensor | None = None
    lowest: float = 0.0
    roles: Mapping[str, bool] = field(default_factory=lambda: {STUDENT: True})

    def losses(self, networks: Mapping[str, nn.Module], batch: ClipBatch, step: int, draw: torch.Generator) -> Losses:
        told = batch.dropped(self.text_dropout, self.action_dropout, self.no_text, draw)
        targets, context = batch.latents[:, :, 1:], batch.latents[:, :, :-1]
        shape = (len(batch), targets.shape[2])
        sigma = drawn_levels(shape, self.lowest, self.shift, draw).to(targets.device)
        noise = noise_for(targets, draw)
        if self.context_noise > 0:
            level = self.context_noise * torch.rand(shape, generator=draw, device=draw.device).to(targets.device)
            context = mixed(context, noise_for(context, draw), level)
        found = teacher_forced(networks[STUDENT], context, mixed(targets, noise, sigma), sigma, told, self.window)
        error = (found - (noise - targets)).square().mean()
        return Losses({STUDENT: error}, {"velocity_error": error.detach()})
