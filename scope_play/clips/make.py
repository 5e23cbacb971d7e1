"""Clips from an image, a prompt and recorded actions, with whichever sampler the model was trained for.

frames = generate("nano", actions="run.parquet", seed=7)
frames = generate("weights/scope", image="start.png", actions="run.parquet", prompt="a desert town", steps=30)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from scope_play.actions import FRAMES_PER_LATENT, ROW_WIDTH, as_model_actions, check_rows, fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.images import crop_and_resize, frames_at_most, read_image
from scope_play.loading.device import EIGHT_BIT, default_precision, pick_device, resolve_dtype
from scope_play.loading.expected import clip_seconds
from scope_play.loading.free_memory import FreeMemory
from scope_play.loading.memory import Need, clip_need
from scope_play.loading.placement import require_place, smaller_clips
from scope_play.loading.prompts import DEFAULT_NEGATIVE_PROMPT, PromptLibrary
from scope_play.loading.request import LoadRequest
from scope_play.loading.resolve import resolve
from scope_play.loading.scope import load_network, open_scope
from scope_play.model.wan_vae.tiling import Tiling
from scope_play.progress import note, span
from scope_play.sampling.clip import (
    ClipShape,
    Conditions,
    Progress,
    Sampling,
    generate_clip,
    ignore_progress,
)
from scope_play.session.interfaces import WorldLike
from scope_play.session.loaded_model import PRECISION_NAMES
from scope_play.weights.hashing import HashCache
from scope_play.weights.official import ScopeFolder
from scope_play.world import open_world

if TYPE_CHECKING:
    from torch import Tensor


DEFAULT_FRAMES = 81
WORTH_SAYING = 60.0
"""Seconds that a clip may take without a word beforehand."""
MAX_LATENTS = 100
"""Positions in time that the released network knows: 397 frames."""


@dataclass(frozen=True)
class ClipOptions:
    """What all clips of a run share. None means the model's own default.

    `frames` is rounded down to 4k+1, `size` (height, width) up to multiples of 32. `offload` is one of "auto", "none",
    "blocks", "disk"; it, wan and lora as in `World.load`.
    """

    frames: int | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    shift: float | None = None
    guidance: float | None = None
    action_guidance: float | None = None
    seed: int = 0
    negative_prompt: str | None = None
    device: str | None = None
    precision: str | None = None
    cache: str | None = None
    decoder: str | None = None
    offload: str = "auto"
    wan: str | None = None
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipInputs:
    """What one clip is made from: a start image, uint8 RGB, action rows (N, 10), and a prompt; each may be None."""

    image: np.ndarray | None = None
    rows: np.ndarray | None = None
    prompt: str | None = None


class ClipMaker(Protocol):
    """A loaded model, ready to make clips."""

    def make(self, inputs: ClipInputs, progress: Progress) -> Iterator[np.ndarray]:
        """Yields uint8 frames (n, H, W, 3) as they are made, so that a long clip need not fit into memory."""

    def settings(self) -> dict[str, Any]:
        """Everything but the inputs that the frames depend on, as JSON values."""


class StreamMaker:
    """Clips from a world that streams: the same frames as playing it with the same actions."""

    def __init__(self, world: WorldLike, options: ClipOptions) -> None:
        spec = world.spec
        if options.size is not None and options.size != (spec.height, spec.width):
            raise ScopeError(f"{spec.name} makes {spec.height}x{spec.width} pixels only; leave out the size.")
        if options.shift is not None or options.negative_prompt is not None:
            raise ScopeError(f"{spec.name} has a schedule of its own; leave out the shift and the negative prompt.")
        if options.offload in ("blocks", "disk"):
            raise ScopeError(f"{spec.name} is played whole, so its blocks cannot be offloaded; leave out --offload.")
        if options.guidance not in (None, 1) and not spec.has_text:
            raise ScopeError(f"{spec.name} takes no prompt that guidance could strengthen; leave it out.")
        self.world = world
        self.options = options

    def make(self, inputs: ClipInputs, progress: Progress) -> Iterator[np.ndarray]:
        if inputs.prompt and not self.world.spec.has_text:
            raise ScopeError(f"{self.world.spec.name} takes no prompt, having no text encoder; leave it out.")
        rows = np.zeros((1, ROW_WIDTH), np.float32) if inputs.rows is None else inputs.rows
        wanted = self.options.frames
        if wanted is None:
            wanted = DEFAULT_FRAMES if inputs.rows is None else len(rows)
        per_chunk = self.world.spec.frames_per_chunk
        chunks = (frames_at_most(wanted) - 1) // per_chunk
        rows = fit_rows(rows, max(1, chunks * per_chunk))
        with self.world.start(inputs.image, inputs.prompt, self.options.seed) as session:
            yield session.first_frame[None]
            for chunk in session.stream(rows) if chunks else ():
                progress("chunks", chunk.index + 1, chunks)
                yield chunk.frames

    def settings(self) -> dict[str, Any]:
        return {
            "mode": "streaming",
            "model": self.world.identity,
            "seed": self.options.seed,
            "stream": dict(vars(self.world.spec.stream)),
            "precision": self.world.spec.precision,
            "device": self.world.spec.device,
            "decoder": self.world.spec.decoder,
        }


class OfflineMaker:
    """Clips from released weights, all frames at once."""

    def __init__(self, folder: ScopeFolder, options: ClipOptions, prompts: Sequence[str], progress: Progress) -> None:
        """Checks memory, encodes all `prompts`, frees the text encoder, then loads the rest."""
        refuse_streaming_options(options)
        self.folder = folder
        self.options = options
        self.shape = shape_of(options)
        self.sampling = sampling_of(options)
        self.negative = DEFAULT_NEGATIVE_PROMPT if options.negative_prompt is None else options.negative_prompt
        self.device = pick_device(options.device)
        self.dtype = resolve_dtype(options.precision, default_precision(self.device))
        library = PromptLibrary(folder, self.dtype)
        texts = [*prompts, *([self.negative] if self.sampling.guidance != 1 else [])]
        text = library.need(texts)

        def need(shape: ClipShape) -> Need:
            return clip_need(folder.dit_config, folder.vae_config, shape, self.sampling, self.dtype, text=text)

        self.offload = require_place(
            lambda offload: need(self.shape),
            FreeMemory.now(self.device),
            options.offload,
            "This clip",
            (
                (f"--size {one.height}x{one.width} --frames {one.frames}", need(one))
                for one in smaller_clips(self.shape)
            ),
        )
        if self.device.type == "cpu":
            self._say_how_long()
        self.contexts = library.embed(texts, self.device, progress)
        self.dit = load_network(folder, self.dtype, self.device, None, self.offload, _stage(progress, "transformer"))
        self.vae = folder.vae(self.dtype, self.device, _stage(progress, "autoencoder"))

    def _say_how_long(self) -> None:
        """What to expect of a processor, from a product of its own measured a moment ago."""
        config, vae = self.folder.dit_config, self.folder.vae_config
        seconds = clip_seconds(config, vae, self.shape, self.sampling, self.dtype)
        where = {"disk": ", with the transformer's blocks read from their files in every pass"}.get(self.offload, "")
        name = PRECISION_NAMES[self.dtype]
        if seconds > WORTH_SAYING:
            note(f"on this processor a clip will take about {span(seconds)}, in {name}{where}; Ctrl-C stops it")

    def make(self, inputs: ClipInputs, progress: Progress) -> Iterator[np.ndarray]:
        image = inputs.image
        if image is not None:
            # To the size that was asked for; the sampler stretches it to the one that can be made.
            image = crop_and_resize(image, *(self.options.size or (ClipShape.height, ClipShape.width)))
        buttons = sticks = None
        if inputs.rows is not None:
            rows = fit_rows(inputs.rows, self.shape.frames)
            buttons, sticks = as_model_actions(rows, dtype=self.dtype, device=self.device)
        negative = self._context(self.negative) if self.sampling.guidance != 1 else None
        conditions = Conditions(self._context(inputs.prompt or ""), negative, buttons, sticks)
        try:
            yield generate_clip(
                self.dit,
                self.vae,
                conditions,
                image,
                self.shape,
                self.sampling,
                dtype=self.dtype,
                device=self.device,
                tiling=Tiling(),
                progress=progress,
            )
        except torch.OutOfMemoryError as error:
            raise ScopeError(
                "The GPU ran out of memory while making the clip; use --offload blocks, a smaller size or fewer frames."
            ) from error

    def settings(self) -> dict[str, Any]:
        return {
            "mode": "offline",
            "model": {"model": str(self.folder.path), "sha256": self.folder.sha256(HashCache())},
            **vars(self.sampling),
            "negative_prompt": self.negative,
            "precision": PRECISION_NAMES[self.dtype],
            "device": str(self.device),
            "offload": self.offload,
        }

    def _context(self, prompt: str) -> Tensor:
        return self.contexts[prompt].to(self.device, self.dtype)


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


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


def open_model(
    model: str | Path, options: ClipOptions, prompts: Sequence[str], progress: Progress = ignore_progress
) -> ClipMaker:
    """Loads nano, a downloaded checkpoint by name, or a folder of weights. `prompts` are those of all clips to be made.

    Raises:
        ScopeError: the weights are missing or wrong, a setting does not fit them, or memory does not suffice.
    """
    place = resolve(model)
    if place.streams:
        names = ("device", "precision", "steps", "guidance", "action_guidance", "cache", "decoder")
        request = LoadRequest(str(model), **{name: getattr(options, name) for name in (*names, "wan", "lora")})
        return StreamMaker(open_world(request), options)
    return OfflineMaker(open_scope(place.folder, options.wan, options.lora), options, prompts, progress)


def generate(
    model: str | Path = "nano",
    *,
    image: np.ndarray | str | os.PathLike[str] | None = None,
    actions: np.ndarray | str | os.PathLike[str] | None = None,
    prompt: str | None = None,
    progress: Progress = ignore_progress,
    **options: Any,
) -> np.ndarray:
    """Makes one clip: uint8 frames (T, H, W, 3).

    Args:
        model: "nano" or a folder of weights.
        image: start image, uint8 RGB (H, W, 3) or a file, cropped and resized to fit. Without one nano starts in its
            own scene and SCOPE from noise.
        actions: rows (N, 10) as in `scope_play.actions`, or a parquet file; the last is repeated if they are few.
        options: the fields of `ClipOptions`.

    Raises:
        ScopeError: an input cannot be used, or the model cannot be loaded here.
    """
    inputs = ClipInputs(
        image=image if image is None or isinstance(image, np.ndarray) else read_image(image),
        rows=actions if actions is None or isinstance(actions, np.ndarray) else read_actions(actions),
        prompt=prompt,
    )
    if inputs.rows is not None:
        check_rows(inputs.rows, "The action array")
    maker = open_model(model, ClipOptions(**options), [prompt or ""], progress)
    return np.concatenate(list(maker.make(inputs, progress)))
