"""Distribution matching distillation on the student's own rollouts (self-forcing): a causal network of few steps.

The student plays clips from their start images through its caches, as it will be played. At a random level both the
frozen bidirectional teacher and a critic, which keeps learning what the student makes, say which clean clip they see
in it: the difference is where the student's clips are more frequent than the teacher's, and is what the student is
moved by. Rollouts take no gradient; it goes through the last step of every latent, computed again for all latents in
one masked pass, which equals the steps with caches. Neither sees a true latent but the first. Source: DMD2 (arXiv
2405.14867), self-forcing (arXiv 2506.08009); five steps of the critic to one of the student as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from scope_play.train.loop import generator
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.method import CRITIC, STUDENT, TEACHER, Losses
from scope_play.train.methods.passes import (
    Guidance,
    after_first,
    clean_from,
    guided_velocity,
    levels,
    mixed,
    noise_for,
    shifted,
    teacher_forced,
    velocity,
)
from scope_play.train.parallel.shard import gathered
from scope_play.train.rollout import Played, play

Play = Callable[..., Played]


@dataclass(frozen=True)
class DMD:
    """`steps` of the student and their `shift`; `lowest` and `highest` level at which clips are judged, by
    `judge_shift`; `critic_steps` of the critic to one of the student. `ends_anywhere`: rollouts end at a random one
    of the student's steps, so that each of them learns to give a clean clip."""

    window: int = 12
    steps: int = 4
    shift: float = 5.0
    lowest: float = 0.02
    highest: float = 0.98
    judge_shift: float = 5.0
    critic_steps: int = 5
    ends_anywhere: bool = True
    guidance: Guidance = field(default_factory=lambda: Guidance(text=5.0))
    play: Play = play
    roles: Mapping[str, bool] = field(default_factory=lambda: {STUDENT: True, TEACHER: False, CRITIC: True})

    def losses(self, networks: Mapping[str, nn.Module], batch: ClipBatch, step: int, draw: torch.Generator) -> Losses:
        sigmas = levels(self.steps, self.shift)
        if self.ends_anywhere:
            # By the step alone: processes that share a network have to make the same passes.
            sigmas = sigmas[: 1 + int(torch.randint(self.steps, (), generator=generator(0, "dmd/end", step)))]
        with gathered(networks[STUDENT]) as student:
            played = self.play(student, batch, sigmas=sigmas, window=self.window, draw=draw)
        if step % (self.critic_steps + 1) < self.critic_steps:
            return self._critic(networks, played, batch, draw)
        return self._student(networks, played, batch, sigmas[-1], draw)

    def _critic(
        self, networks: Mapping[str, nn.Module], played: Played, batch: ClipBatch, draw: torch.Generator
    ) -> Losses:
        """Flow matching on what the student made."""
        sigma, noise = self._level(played.latents, draw), noise_for(played.latents, draw)
        found = velocity(networks[CRITIC], mixed(played.latents, noise, sigma), sigma, batch)
        error = (found - (noise - played.latents))[:, :, 1:].square().mean()
        return Losses({CRITIC: error}, {"critic_error": error.detach()})

    def _student(
        self, networks: Mapping[str, nn.Module], played: Played, batch: ClipBatch, last: float, draw: torch.Generator
    ) -> Losses:
        context = played.latents[:, :, :-1]
        level = torch.full((len(batch), context.shape[2]), last, device=context.device)
        found = teacher_forced(networks[STUDENT], context, played.noisy, level, batch, self.window)
        made = torch.cat([batch.first, clean_from(played.noisy, level, found)], 2)
        with torch.no_grad():
            sigma = self._level(made, draw)
            noisy = mixed(made, noise_for(made, draw), sigma)
            told = replace(batch, latents=made)
            real = clean_from(noisy, sigma, guided_velocity(networks[TEACHER], noisy, sigma, told, self.guidance))
            fake = clean_from(noisy, sigma, velocity(networks[CRITIC], noisy, sigma, batch))
            direction = matching_direction(made, real, fake)[:, :, 1:]
        shown = made[:, :, 1:]
        loss = 0.5 * (shown - (shown - direction).detach()).square().mean()
        return Losses({STUDENT: loss}, {"direction": direction.abs().mean()})

    def _level(self, latents: Tensor, draw: torch.Generator) -> Tensor:
        uniform = torch.rand(len(latents), 1, generator=draw, device=draw.device).to(latents.device)
        level = self.lowest + (self.highest - self.lowest) * shifted(uniform, self.judge_shift)
        return after_first(level.expand(-1, latents.shape[2] - 1))


def matching_direction(made: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Against which clips (B, C, F, h, w) should move: the critic's clean clip less the teacher's, sample by sample in
    units of how far the teacher's is from what was made."""
    scale = (made - real).abs().mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    return (fake - real) / scale
