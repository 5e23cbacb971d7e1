"""Few-step training on the model's own rollouts (self-forcing), with the arena's truth as target.

The arena is deterministic: for the actions of a clip it says what should have been seen, so no discriminator or teacher
is needed. Each step plays a batch of clips from their true start with the streaming cache, one or two denoising steps a
latent, without gradients; then one pass over a stretch of the result, with those generated latents as context, learns
the truth. Rollouts grow longer as training goes on. Where a rollout has left the truth, the truth says little about
what should follow from what was generated: such targets weigh less (`trust`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from scope_play.train.optim.muon import OptimiserConfig
from scope_play.train.rollout import noise_like, rollout
from scope_play.train.segments import random_segment
from scope_play.train.world import Example, LatentClips, WorldRecipe, WorldTrainer


@dataclass(frozen=True)
class StudentRecipe(WorldRecipe):
    """`latents` grows to `longest` over `growth` steps; `own_noise` is the noise on generated context.

    Every `teacher_every`-th step is a step of world training, which keeps the context weights honest; 0 for none.
    """

    latents: int = 24
    longest: int = 64
    growth: int = 2000
    segment: int = 14
    own_noise: tuple[float, float] = (0.0, 0.0005)
    teacher_every: int = 4
    teacher_latents: int = 13
    trust_scale: float = 1.0
    own_context: float = 0.0
    action_dropout: float = 0.0
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=1.5e-3, warmup=30))

    @property
    def most_latents(self) -> int:
        return max(self.latents, self.longest, self.teacher_latents)


class StudentTrainer(WorldTrainer):
    kind = "student"
    recipe: StudentRecipe

    def teaches(self, step: int) -> bool:
        """Whether this step is one of plain teacher forcing."""
        return self.recipe.teacher_every > 0 and step % self.recipe.teacher_every == self.recipe.teacher_every - 1

    def length(self, step: int) -> int:
        recipe = self.recipe
        if self.teaches(step):
            return recipe.teacher_latents
        grown = (recipe.longest - recipe.latents) * min(1.0, step / max(1, recipe.growth))
        return recipe.latents + int(grown)

    def example(self, clips: LatentClips, step: int, draw: torch.Generator) -> Example:
        if self.teaches(step):
            return super().example(clips, step, draw)
        recipe, truth = self.recipe, clips.latents
        with self._autocast():
            played = rollout(
                self.model,
                truth[:, :, 0],
                clips.buttons,
                clips.sticks,
                truth.shape[2],
                window=recipe.window,
                sigmas=recipe.sigmas,
                draw=draw,
                project=self._project,
            ).latents
        segment = random_segment(truth.shape[2], recipe.segment, recipe.window, draw)
        targets, guess = truth[:, :, segment.targets], played[:, :, segment.targets]
        context = self._noised(played[:, :, segment.contexts], recipe.own_noise, draw)
        sigma = self._visited((len(truth), targets.shape[2]), draw)
        noise = noise_like(targets.shape, draw, self._device) * self.model.config.noise_scale
        mix = sigma[:, None, :, None, None]
        noisy = (1 - mix) * guess + mix * noise
        velocity = (noisy - targets) / mix
        return Example(
            clips,
            segment,
            context,
            noisy,
            sigma,
            velocity,
            trust=self._trust(played, truth, segment.first, segment.end),
        )

    def _visited(self, shape: tuple[int, int], draw: torch.Generator) -> Tensor:
        levels = torch.tensor(self.recipe.sigmas)
        chosen = torch.randint(len(levels), shape, generator=draw, device=draw.device)
        return levels.to(self._device)[chosen]

    def _trust(self, played: Tensor, truth: Tensor, first: int, end: int) -> Tensor:
        """(B, targets): how far to believe the truth, by how far the latent before had left it."""
        before = slice(first - 1, end - 1)
        gap = ((played[:, :, before] - truth[:, :, before]).square() * self._weight).mean((1, 3, 4))
        return torch.exp(-gap / self.recipe.trust_scale)
