"""Clips from an image, a prompt and recorded actions, with whichever sampler the model was trained for.

frames = generate("nano", actions="run.parquet", seed=7)
frames = generate("weights/scope", image="start.png", actions="run.parquet", prompt="a desert town", steps=30)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scope_play.actions import ROW_WIDTH, as_model_actions, check_rows, fit_rows, read_actions
from scope_play.clips.options import DEFAULT_FRAMES, ClipInputs, ClipMaker, ClipOptions
from scope_play.clips.plan import ClipPlan, plan_clips
from scope_play.errors import ScopeError
from scope_play.images import crop_and_resize, frames_at_most, read_image
from scope_play.loading.outlook import Outlook, expect
from scope_play.loading.request import LoadRequest
from scope_play.loading.resolve import resolve
from scope_play.loading.scope import load_network, open_scope
from scope_play.model.wan_vae.tiling import Tiling
from scope_play.progress import note, span
from scope_play.sampling.clip import (
    ClipShape,
    Conditions,
    Progress,
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


WORTH_SAYING = 60.0
"""Seconds that a clip may take without a word beforehand."""


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
        self.plan = plan = plan_clips(folder, options, prompts)
        self.options = options
        if plan.device.type == "cpu":
            say_how_long(plan)
        self.contexts = plan.library.embed(plan.texts, plan.device, progress)
        stage = _stage(progress, "transformer")
        self.dit = load_network(folder, plan.dtype, plan.device, None, plan.offload, stage)
        self.vae = folder.vae(plan.dtype, plan.device, _stage(progress, "autoencoder"))

    def make(self, inputs: ClipInputs, progress: Progress) -> Iterator[np.ndarray]:
        plan, image = self.plan, inputs.image
        if image is not None:
            # To the size that was asked for; the sampler stretches it to the one that can be made.
            image = crop_and_resize(image, *(self.options.size or (ClipShape.height, ClipShape.width)))
        buttons = sticks = None
        if inputs.rows is not None:
            rows = fit_rows(inputs.rows, plan.shape.frames)
            buttons, sticks = as_model_actions(rows, dtype=plan.dtype, device=plan.device)
        negative = self._context(plan.negative) if plan.sampling.guidance != 1 else None
        conditions = Conditions(self._context(inputs.prompt or ""), negative, buttons, sticks)
        try:
            yield generate_clip(
                self.dit,
                self.vae,
                conditions,
                image,
                plan.shape,
                plan.sampling,
                dtype=plan.dtype,
                device=plan.device,
                tiling=Tiling(),
                progress=progress,
            )
        except torch.OutOfMemoryError as error:
            raise ScopeError(
                "The GPU ran out of memory while making the clip; use --offload blocks, a smaller size or fewer frames."
            ) from error

    def settings(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "mode": "offline",
            "model": {"model": str(plan.folder.path), "sha256": plan.folder.sha256(HashCache())},
            **vars(plan.sampling),
            "negative_prompt": plan.negative,
            "precision": PRECISION_NAMES[plan.dtype],
            "device": str(plan.device),
            "offload": plan.offload,
        }

    def _context(self, prompt: str) -> Tensor:
        return self.contexts[prompt].to(self.plan.device, self.plan.dtype)


def say_how_long(plan: ClipPlan) -> None:
    """What to expect of a processor, if it is long."""
    seconds = plan.seconds()
    where = {"disk": ", with the transformer's blocks read from their files in every pass"}.get(plan.offload, "")
    name = PRECISION_NAMES[plan.dtype]
    if seconds > WORTH_SAYING:
        note(f"on this processor a clip will take about {span(seconds)}, in {name}{where}; Ctrl-C stops it")


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def open_model(
    model: str | Path, options: ClipOptions, prompts: Sequence[str], progress: Progress = ignore_progress
) -> ClipMaker:
    """Loads nano, a downloaded checkpoint by name, or a folder of weights. `prompts` are those of all clips to be made.

    Raises:
        ScopeError: the weights are missing or wrong, a setting does not fit them, or memory does not suffice.
    """
    place = resolve(model)
    if place.streams:
        return StreamMaker(open_world(stream_request(model, options)), options)
    return OfflineMaker(open_scope(place.folder, options.wan, options.lora), options, prompts, progress)


def stream_request(model: str | Path, options: ClipOptions) -> LoadRequest:
    """What a model that streams is loaded with for clips."""
    names = ("device", "precision", "steps", "guidance", "action_guidance", "cache", "decoder", "wan", "lora")
    return LoadRequest(str(model), **{name: getattr(options, name) for name in names})


def look_ahead(model: str | Path, options: ClipOptions, prompts: Sequence[str]) -> Outlook:
    """What clips will take. Raises ScopeError as making them would."""
    place = resolve(model)
    if place.streams:
        return expect(stream_request(model, options))
    plan = plan_clips(open_scope(place.folder, options.wan, options.lora), options, prompts)
    return Outlook.of(plan.need, plan.offload, plan.device, plan.seconds() if plan.device.type == "cpu" else None)


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
