"""Flow matching over whole clips, as SCOPE itself was trained: for fine-tuning.

One noise level for all latents but the start image's; every latent sees every other one. Levels lean towards noise by
the shift that sampling uses. Source: SPEC.md section 5; Lipman et al. 2022 (arXiv 2210.02747).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.method import STUDENT, Losses
from scope_play.train.methods.passes import after_first, drawn_levels, mixed, noise_for, velocity


@dataclass(frozen=True)
class Flow:
    """Dropout is the share of samples that learn without prompt, or without actions; `no_text` (1, L, D) is no
    prompt. `lowest`: level below which nothing is learned; a network that predicts clean latents divides by the level,
    and the few lowest, which no schedule visits, would be all that it learns."""

    shift: float = 5.0
    text_dropout: float = 0.1
    action_dropout: float = 0.1
    no_text: Tensor | None = None
    lowest: float = 0.0
    roles: Mapping[str, bool] = field(default_factory=lambda: {STUDENT: True})

    def losses(self, networks: Mapping[str, nn.Module], batch: ClipBatch, step: int, draw: torch.Generator) -> Losses:
        told = batch.dropped(self.text_dropout, self.action_dropout, self.no_text, draw)
        level = drawn_levels((len(batch), 1), self.lowest, self.shift, draw).to(batch.latents.device)
        sigma = after_first(level.expand(-1, batch.latents.shape[2] - 1))
        noise = noise_for(batch.latents, draw)
        missed = velocity(networks[STUDENT], mixed(batch.latents, noise, sigma), sigma, told)
        error = (missed - (noise - batch.latents))[:, :, 1:].square().mean()
        return Losses({STUDENT: error}, {"velocity_error": error.detach()})
