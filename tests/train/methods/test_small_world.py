"""All methods in turn, from nothing, on a world of 16 tokens a latent whose truth is known: what one token cannot show.

A patch of light lies on a grid of 4 x 4 cells that has no ends; the right stick moves it by up to 0.7 of a cell a
latent, and a button turns it dark. Pictures are what attention over places, the masks and the caches have to carry.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.train.loop import generator
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.causal import Causal
from scope_play.train.methods.consistency import Consistency
from scope_play.train.methods.dmd import DMD
from scope_play.train.methods.flow import Flow
from scope_play.train.methods.method import CRITIC, STUDENT, TEACHER, Method
from scope_play.train.methods.passes import Guidance, after_first, levels, noise_for, velocity
from scope_play.train.methods.trainer import MethodTrainer, TrainerConfig
from scope_play.train.rollout import play
from scope_play.train.world import initialise

SHIFT, LATENTS, WINDOW = 3.0, 4, 3
CONFIG = DiTConfig(
    dim=32,
    layers=2,
    heads=2,
    ffn_dim=64,
    in_channels=1,
    out_channels=1,
    patch=(1, 1, 1),
    text_dim=None,
    freq_dim=32,
    action=ActionConfig(modulates=True),
)


class Light:
    """Clips of the world, by step."""

    def batch(self, samples: range, latents: int, step: int) -> ClipBatch:
        draw = generator(0, "light", step)
        count = len(samples)
        begin = 4 * torch.rand(count, 1, 2, generator=draw)
        moved = 1.4 * torch.rand(count, latents - 1, 2, generator=draw) - 0.7
        dark = (torch.rand(count, latents - 1, generator=draw) < 0.3).float()
        at = torch.cat([begin, begin + moved.cumsum(1)], 1)
        sign = torch.cat([torch.ones(count, 1), 1 - 2 * dark], 1)
        buttons, sticks = torch.zeros(count, 4 * (latents - 1), 6), torch.zeros(count, 4 * (latents - 1), 4)
        buttons[..., 0] = dark.repeat_interleave(4, 1)
        sticks[..., 2:] = moved.repeat_interleave(4, 1)
        return ClipBatch((sign[..., None, None] * spot(at))[:, None], buttons, sticks)


def spot(at: Tensor) -> Tensor:
    """Places (..., 2) -> pictures (..., 4, 4) of about unit spread."""
    cells = torch.arange(4.0)
    waves = [1 + torch.cos((cells - at[..., axis, None]) * torch.pi / 2) for axis in (0, 1)]
    return waves[0][..., :, None] * waves[1][..., None, :] - 1


def trained(method: Method, networks: dict[str, DiT], steps: int, lr: float) -> DiT:
    config = TrainerConfig(
        batch=8, micro_batch=8, latents=LATENTS, lr=lr, critic_lr=lr / 2, warmup=20, decay=0.0, clip=1.0
    )
    trainer = MethodTrainer("test", method, networks, Light(), config, described={})
    trainer.cool(steps // 2, steps)
    for step in range(steps):
        trainer.update(trainer.batch(step), step)
    return networks[STUDENT]


def like(network: DiT, causal: bool) -> DiT:
    other = DiT(replace(CONFIG, causal=causal))
    other.load_state_dict(network.state_dict())
    return other


@torch.no_grad()
def missed(made: Tensor, batch: ClipBatch) -> float:
    """Of the clips' variance after their start images, how much was not foreseen."""
    return float((made - batch.latents)[:, :, 1:].square().mean() / batch.latents.var())


@torch.no_grad()
def offline(network: DiT, batch: ClipBatch, steps: int) -> Tensor:
    ladder = [*levels(steps, SHIFT), 0.0]
    x = noise_for(batch.latents, generator(1, "noise", 0))
    for sigma, lower in pairwise(ladder):
        x = torch.cat([batch.first, x[:, :, 1:]], 2)
        level = after_first(torch.full((len(batch), LATENTS - 1), sigma))
        x = x + (lower - sigma) * velocity(network, x, level, batch)
    return x


def streamed(network: DiT, batch: ClipBatch, steps: int) -> Tensor:
    return play(network, batch, sigmas=levels(steps, SHIFT), window=WINDOW, draw=generator(2, "noise", 0)).latents


def test_teacher_causal_consistency_and_few_steps_follow_each_other_on_many_tokens() -> None:
    unseen = Light().batch(range(64), LATENTS, 10**6)
    with torch.no_grad():
        teacher = initialise(DiT(CONFIG), 0)
    trained(Flow(SHIFT, 0.0, 0.0), {STUDENT: teacher}, 400, 5e-3)
    copied = missed(unseen.first.expand_as(unseen.latents), unseen)
    best, training_free = missed(offline(teacher, unseen, 12), unseen), missed(streamed(teacher, unseen, 4), unseen)
    assert best < copied / 5
    assert training_free > 1.5 * best  # it was never streamed

    causal = trained(Causal(WINDOW, SHIFT, 0.0, 0.0, 0.0), {STUDENT: like(teacher, True)}, 120, 3e-3)
    assert missed(streamed(causal, unseen, 4), unseen) < 1.2 * best

    roles = {STUDENT: like(causal, True), TEACHER: like(causal, True)}
    consistent = trained(Consistency(WINDOW, 8, SHIFT), roles, 40, 1e-4)
    assert missed(streamed(consistent, unseen, 1), unseen) < 1.2 * best

    few = DMD(WINDOW, 2, SHIFT, critic_steps=1, guidance=Guidance())
    networks = {STUDENT: like(consistent, True), TEACHER: like(teacher, False), CRITIC: like(teacher, False)}
    student = trained(few, networks, 48, 1e-4)
    assert missed(streamed(student, unseen, 2), unseen) < min(1.5 * best, training_free)
