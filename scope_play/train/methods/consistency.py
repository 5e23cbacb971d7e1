"""Causal consistency distillation: from any level of a teacher's path straight to its end. The start for few steps.

The teacher takes one step of its guided path, from level n to the next lower one, each latent from the true ones
before it; the student's clean prediction at n is drawn to its own prediction after that step. At the lowest level
that is the path's end itself, and what is learned there moves up level by level. Source: consistency models (arXiv
2303.01469); before DMD in causal students: CausVid (arXiv 2412.07772) and its followers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.method import STUDENT, TEACHER, Losses
from scope_play.train.methods.passes import (
    Guidance,
    clean_from,
    guided_velocity,
    levels,
    mixed,
    noise_for,
    teacher_forced,
)


@dataclass(frozen=True)
class Consistency:
    """`steps` levels of the teacher's path, by `shift`. Errors count by their size beyond `exact`, by their square
    below it (pseudo-Huber)."""

    window: int = 12
    steps: int = 32
    shift: float = 5.0
    exact: float = 0.01
    guidance: Guidance = field(default_factory=Guidance)
    roles: Mapping[str, bool] = field(default_factory=lambda: {STUDENT: True, TEACHER: False})

    def losses(self, networks: Mapping[str, nn.Module], batch: ClipBatch, step: int, draw: torch.Generator) -> Losses:
        targets, context = batch.latents[:, :, 1:], batch.latents[:, :, :-1]
        ladder = torch.tensor([*levels(self.steps, self.shift), 0.0], device=targets.device)
        shape = (len(batch), targets.shape[2])
        at = torch.randint(self.steps, shape, generator=draw, device=draw.device).to(targets.device)
        sigma, lower = ladder[at], ladder[at + 1]
        noisy = mixed(targets, noise_for(targets, draw), sigma)
        student = networks[STUDENT]
        with torch.no_grad():
            path = guided_velocity(networks[TEACHER], noisy, sigma, batch, self.guidance, self.window)
            nearer = noisy + (lower - sigma)[:, None, :, None, None] * path
            goal = clean_from(nearer, lower, teacher_forced(student, context, nearer, lower, batch, self.window))
        found = clean_from(noisy, sigma, teacher_forced(student, context, noisy, sigma, batch, self.window))
        missed = (found - goal).square()
        error = (torch.sqrt(missed + self.exact**2) - self.exact).mean()
        return Losses({STUDENT: error}, {"clean_error": missed.detach().mean()})
