"""How clips of the released weights will be made, settled before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.clips.options import DEFAULT_FRAMES, ClipOptions
from scope_play.errors import ScopeError
from scope_play.images import frames_at_most
from scope_play.loading.device import EIGHT_BIT, default_precision, pick_device, resolve_dtype
from scope_play.loading.expected import clip_seconds
from scope_play.loading.free_memory import FreeMemory
from scope_play.loading.memory import Need, clip_need
from scope_play.loading.placement import require_place, smaller_clips
from scope_play.loading.prompts import DEFAULT_NEGATIVE_PROMPT, PromptLibrary
from scope_play.sampling.clip import ClipShape, Sampling
from scope_play.weights.official import ScopeFolder

MAX_LATENTS = 100
"""Positions in time that the released network knows: 397 frames."""


@dataclass(frozen=True)
class ClipPlan:
    """How clips of released weights will be made: settled before any of them is read.

    texts: all prompts that have to be known. offload: where the blocks will lie, one of OFFLOADS. need: the memory that
    this takes.
    """

    folder: ScopeFolder
    shape: ClipShape
    sampling: Sampling
    negative: str
    device: torch.device
    dtype: torch.dtype
    library: PromptLibrary
    texts: tuple[str, ...]
    offload: str
    need: Need

    def seconds(self) -> float:
        """About how long a clip takes on a processor, from a product of its own measured now."""
        config, vae = self.folder.dit_config, self.folder.vae_config
        return clip_seconds(config, vae, self.shape, self.sampling, self.dtype)


def plan_clips(folder: ScopeFolder, options: ClipOptions, prompts: Sequence[str]) -> ClipPlan:
    """Raises ScopeError for a setting that does not fit, or naming what memory would suffice for."""
    refuse_streaming_options(options)
    shape, sampling = shape_of(options), sampling_of(options)
    negative = DEFAULT_NEGATIVE_PROMPT if options.negative_prompt is None else options.negative_prompt
    device = pick_device(options.device)
    dtype = resolve_dtype(options.precision, default_precision(device))
    library = PromptLibrary(folder, dtype)
    texts = (*prompts, *([negative] if sampling.guidance != 1 else []))
    text = library.need(texts)

    def need(shape: ClipShape) -> Need:
        return clip_need(folder.dit_config, folder.vae_config, shape, sampling, dtype, text=text)

    offload = require_place(
        lambda offload: need(shape),
        FreeMemory.now(device),
        options.offload,
        "This clip",
        ((f"--size {one.height}x{one.width} --frames {one.frames}", need(one)) for one in smaller_clips(shape)),
    )
    return ClipPlan(folder, shape, sampling, negative, device, dtype, library, texts, offload, need(shape))


def refuse_streaming_options(options: ClipOptions) -> None:
    """Raises ScopeError for what only makes sense where a world is played."""
    if options.precision in EIGHT_BIT:
        raise ScopeError(
            f"Clips of whole SCOPE are made in bf16 or fp32, not {options.precision}; for a small card use "
            f"--offload blocks, or play --headless --precision {options.precision}."
        )
    for name in ("cache", "decoder"):
        if getattr(options, name) not in (None, "full"):
            raise ScopeError(
                f"Clips of whole SCOPE have no {getattr(options, name)} {name}; leave out --{name}, or use it with "
                f"play --headless."
            )


def shape_of(options: ClipOptions) -> ClipShape:
    """The size of an offline clip."""
    height, width = options.size or (ClipShape.height, ClipShape.width)
    frames = DEFAULT_FRAMES if options.frames is None else options.frames
    shape = ClipShape(frames_at_most(frames), height, width)
    if shape.latents > MAX_LATENTS:
        longest = 1 + FRAMES_PER_LATENT * (MAX_LATENTS - 1)
        raise ScopeError(f"{frames} frames are more than this network can place in time; ask for {longest} at most.")
    return shape


def sampling_of(options: ClipOptions) -> Sampling:
    """The sampling of an offline clip: the released model's defaults where nothing is asked for."""
    names = ("steps", "shift", "guidance", "action_guidance")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(Sampling(seed=options.seed), **chosen)
