"""Figures a training keeps an eye on, all in decoded pixels against the arena's truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.train.autoencoder import psnr
from scope_play.train.loop import generator
from scope_play.train.rollout import noise_like, rollout
from scope_play.train.segments import whole
from scope_play.train.sheet import contact_sheet, to_uint8

if TYPE_CHECKING:
    from scope_play.train.world import LatentClips, WorldTrainer

CLIPS, LATENTS = 6, 24
HORIZONS = ((1, 3), (3, 6), (6, 12), (12, 24))


@torch.inference_mode()
def validate_world(trainer: WorldTrainer) -> tuple[dict[str, float], np.ndarray]:
    """Next latent with true, shuffled and no actions beside copying and the codec itself, then rollouts; and a sheet.

    Clips come from their own seed; they are the same at every call, so that runs can be compared.
    """
    model = trainer.averaged()
    clips = trainer.encode(CLIPS, LATENTS, "validation", 0)
    decoder = trainer.codec
    truth = _decode(decoder, clips.latents)
    figures = {"next_true": _next(trainer, model, clips, truth)}
    order = torch.arange(CLIPS).roll(1)
    shuffled = type(clips)(clips.latents, clips.buttons[order], clips.sticks[order])
    figures["next_shuffled"] = _next(trainer, model, shuffled, truth)
    copied = torch.cat([clips.latents[:, :, :1], clips.latents[:, :, :-1]], 2)
    figures["next_copy"] = psnr((_decode(decoder, copied)[:, :, 1:] - truth[:, :, 1:]).square())
    draw = generator(0, "validation/rollout", 0)
    played = rollout(
        model,
        clips.latents[:, :, 0],
        clips.buttons,
        clips.sticks,
        LATENTS,
        window=trainer.recipe.window,
        sigmas=trainer.recipe.sigmas,
        draw=draw,
        project=decoder.project if isinstance(decoder, NanoCodec) else None,
    )
    shown = _decode(decoder, played)
    for begin, end in HORIZONS:
        frames = slice(4 * begin - 3, 4 * end - 3)
        figures[f"rollout_{begin}_{end}"] = psnr((shown[:, :, frames] - truth[:, :, frames]).square())
        first = truth[:, :, :1].expand_as(truth[:, :, frames])
        figures[f"still_{begin}_{end}"] = psnr((first - truth[:, :, frames]).square())
    rows = [to_uint8(video[b, :, ::8]) for b in range(CLIPS) for video in (truth, shown)]
    return figures, contact_sheet(rows)


def _next(trainer: WorldTrainer, model: DiT, clips: LatentClips, truth: Tensor) -> float:
    from scope_play.train.world import Example

    segment = whole(LATENTS)
    targets = clips.latents[:, :, segment.targets]
    noise = noise_like(targets.shape, generator(0, "validation/next", 0), targets.device) * model.config.noise_scale
    sigma = torch.ones(len(noise), noise.shape[2], device=noise.device)
    example = Example(clips, segment, clips.latents[:, :, segment.contexts], noise, sigma, noise)
    predicted = noise - trainer.velocity(example, model)
    latents = torch.cat([clips.latents[:, :, :1], predicted], 2)
    return psnr((_decode(trainer.codec, latents)[:, :, 1:] - truth[:, :, 1:]).square())


def _decode(codec: object, latents: Tensor) -> Tensor:
    return codec.decoder().push(latents)  # type: ignore[attr-defined]
