"""Figures a training keeps an eye on, all in decoded pixels against the arena's truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.session.codec import Codec
from scope_play.train.cells import psnr
from scope_play.train.examples import Example, LatentClips
from scope_play.train.loop import generator
from scope_play.train.rollout import noise_like, rollout
from scope_play.train.segments import whole
from scope_play.train.sheet import contact_sheet, to_uint8

CLIPS, LATENTS = 6, 24
Velocity = Callable[[Example, DiT], Tensor]
HORIZONS = ((1, 3), (3, 6), (6, 12), (12, 24))


@torch.inference_mode()
def validate_world(
    model: DiT, decoder: Codec, clips: LatentClips, *, window: int, sigmas: Sequence[float], velocity: Velocity
) -> tuple[dict[str, float], np.ndarray]:
    """Next latent with true, shuffled and no actions beside copying and the codec itself, then rollouts; and a sheet.

    `clips` are CLIPS of up to LATENTS latents, the same at every call, so that runs can be compared.
    """
    truth = _decode(decoder, clips.latents)

    def score(of: LatentClips) -> float:
        return psnr((_decode(decoder, _next(model, of, velocity))[:, :, 1:] - truth[:, :, 1:]).square())

    figures = {"next_true": score(clips)}
    order = torch.arange(CLIPS).roll(1)
    shuffled = type(clips)(clips.latents, clips.buttons[order], clips.sticks[order])
    figures["next_shuffled"] = score(shuffled)
    copied = torch.cat([clips.latents[:, :, :1], clips.latents[:, :, :-1]], 2)
    figures["next_copy"] = psnr((_decode(decoder, copied)[:, :, 1:] - truth[:, :, 1:]).square())
    draw = generator(0, "validation/rollout", 0)
    played = rollout(
        model,
        clips.latents[:, :, 0],
        clips.buttons,
        clips.sticks,
        clips.latents.shape[2],
        window=window,
        sigmas=sigmas,
        draw=draw,
        project=decoder.project if isinstance(decoder, NanoCodec) else None,
    ).latents
    shown = _decode(decoder, played)
    for begin, end in HORIZONS:
        if begin >= clips.latents.shape[2]:
            break
        frames = slice(4 * begin - 3, 4 * end - 3)
        figures[f"rollout_{begin}_{end}"] = psnr((shown[:, :, frames] - truth[:, :, frames]).square())
        first = truth[:, :, :1].expand_as(truth[:, :, frames])
        figures[f"still_{begin}_{end}"] = psnr((first - truth[:, :, frames]).square())
    rows = [to_uint8(video[b, :, ::8]) for b in range(CLIPS) for video in (truth, shown)]
    return figures, contact_sheet(rows)


def _next(model: DiT, clips: LatentClips, velocity: Velocity) -> Tensor:
    """The start image's latent, and every later one predicted from the true ones before it."""
    segment = whole(clips.latents.shape[2])
    targets = clips.latents[:, :, segment.targets]
    noise = noise_like(targets.shape, generator(0, "validation/next", 0), targets.device) * model.config.noise_scale
    sigma = torch.ones(len(noise), noise.shape[2], device=noise.device)
    example = Example(clips, segment, clips.latents[:, :, segment.contexts], noise, sigma, noise)
    return torch.cat([clips.latents[:, :, :1], noise - velocity(example, model)], 2)


def _decode(codec: Codec, latents: Tensor) -> Tensor:
    return codec.decoder().push(latents)
