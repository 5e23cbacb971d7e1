"""Passes of a network over clips, in float32 whatever it computes in: velocities, clean predictions, guidance.

Noise level sigma mixes x = (1 - sigma) clean + sigma noise, and the network's velocity is noise - clean (SPEC.md
section 5). The start image's latent is always clean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from scope_play.model.dit.layout import FrameLayout, bidirectional
from scope_play.sampling.guidance import Predictions, combine
from scope_play.sampling.schedule import make_sigmas
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.rollout import noise_like
from scope_play.train.segments import join, whole


@dataclass(frozen=True)
class Guidance:
    """Scales of what the prompt and the actions add; 1 is off. `no_text` (1, L, D) stands for no prompt."""

    text: float = 1.0
    actions: float = 1.0
    no_text: Tensor | None = None


def shifted(uniform: Tensor, shift: float) -> Tensor:
    """Levels in [0, 1] moved towards 1: the schedule's shift of timesteps."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def drawn_levels(shape: tuple[int, int], lowest: float, shift: float, draw: torch.Generator) -> Tensor:
    """Levels (B, F) from `lowest` to 1, drawn where `draw` is."""
    return lowest + (1 - lowest) * shifted(torch.rand(shape, generator=draw, device=draw.device), shift)


def levels(steps: int, shift: float) -> list[float]:
    """The levels that `steps` steps visit, descending from 1, without the 0 they end at."""
    return make_sigmas(steps, shift)[:-1].tolist()


def mixed(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(B, C, F, h, w) at the levels `sigma` (B, F)."""
    level = sigma[:, None, :, None, None]
    return (1 - level) * clean + level * noise


def after_first(sigma: Tensor) -> Tensor:
    """Levels (B, F - 1) of what is denoised -> (B, F), the start image's being 0."""
    return torch.cat([torch.zeros_like(sigma[:, :1]), sigma], 1)


def velocity(
    network: nn.Module, noisy: Tensor, sigma: Tensor, batch: ClipBatch, layout: FrameLayout | None = None
) -> Tensor:
    """Of all latents at once: noisy (B, C, F, h, w) at sigma (B, F) -> the same shape, float32. Without `layout` every
    latent sees every other one, however the network is marked."""
    return network(
        noisy,
        1000 * sigma,
        layout=bidirectional(noisy.shape[2]) if layout is None else layout,
        context=batch.context,
        buttons=batch.buttons,
        sticks=batch.sticks,
        action_keep=batch.keep_actions,
    ).float()


def teacher_forced(
    network: nn.Module, context: Tensor, noisy: Tensor, sigma: Tensor, batch: ClipBatch, window: int
) -> Tensor:
    """Of every latent after the first, each from the clean ones before it: what streaming with caches computes.

    context (B, C, F - 1, h, w) are latents 0 .. F-2, noisy those 1 .. F-1 at sigma (B, F - 1). No noisy latent sees
    another one, and none sees what comes after it.
    """
    inputs, timesteps = join(context, noisy, sigma)
    layout = whole(context.shape[2] + 1).layout(window)
    return velocity(network, inputs, timesteps / 1000, batch, layout)[:, :, context.shape[2] :]


def guided_velocity(
    network: nn.Module, noisy: Tensor, sigma: Tensor, batch: ClipBatch, guidance: Guidance, window: int | None = None
) -> Tensor:
    """As `velocity`, steered: away from no prompt, towards more of the actions. With `window` as `teacher_forced`, on
    the batch's own latents as context."""

    def predict(told: ClipBatch) -> Tensor:
        if window is None:
            return velocity(network, noisy, sigma, told)
        return teacher_forced(network, batch.latents[:, :, :-1], noisy, sigma, told, window)

    negative = actionless = None
    if guidance.text != 1 and batch.context is not None and guidance.no_text is not None:
        negative = predict(replace(batch, context=guidance.no_text.to(batch.context).expand_as(batch.context)))
    if guidance.actions != 1:
        actionless = predict(replace(batch, keep_actions=torch.zeros(len(batch), device=noisy.device)))
    return combine(Predictions(predict(batch), negative, actionless), guidance.text, guidance.actions)


def clean_from(noisy: Tensor, sigma: Tensor, velocity: Tensor) -> Tensor:
    """The clean latents that a velocity points to."""
    return noisy - sigma[:, None, :, None, None] * velocity


def noise_for(like: Tensor, draw: torch.Generator) -> Tensor:
    return noise_like(like.shape, draw, like.device)
