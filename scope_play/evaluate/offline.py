"""A bidirectional world that is not streamed: every game is one clip, denoised at once from its start image and all of
its rows, as `scope-play generate` does. What streaming the same weights, or distilling them, is to be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np
import torch

from scope_play.actions import BUTTONS
from scope_play.errors import ScopeError
from scope_play.images import Image, to_levels
from scope_play.sampling.clip import Conditions, GuidedVelocity, Sampling, denoise
from scope_play.sampling.schedule import make_sigmas
from scope_play.sampling.stream import latent_noise
from scope_play.session.codec import ProjectingCodec
from scope_play.session.interfaces import Chunk
from scope_play.session.loaded_model import LoadedModel
from scope_play.session.rows import rows_of_step

CLIP_LATENTS = 21
"""Of the clips that SCOPE was trained on: 81 frames."""


class OfflineWorld:
    """Plays clips of `latents` latents in `steps` steps, with a model's own shift and guidance of actions.

    Raises ScopeError for causal weights, which are streamed and nothing else, and for those that take prompts.
    """

    def __init__(self, model: LoadedModel, latents: int = CLIP_LATENTS, steps: int = Sampling.steps) -> None:
        if model.spec.causal or model.spec.has_text:
            why = "is causal" if model.spec.causal else "takes prompts"
            raise ScopeError(f"{model.name} {why}, so no clip of it is evaluated offline; leave out --offline")
        self.model, self.identity, self.latents = model, model.identity, latents
        self.spec = replace(model.spec, stream=replace(model.stream, chunk=latents - 1, steps=steps))

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> OfflineGame:
        return self.start_many([image], [seed])

    def start_many(self, images: Sequence[Image | None], seeds: Sequence[int]) -> OfflineGame:
        return OfflineGame(self, images, seeds)


class OfflineGame:
    """Clips side by side, of one step each."""

    def __init__(self, world: OfflineWorld, images: Sequence[Image | None], seeds: Sequence[int]) -> None:
        self._world, self._seeds = world, seeds
        self._images = np.stack([world.model.fit_image(image) for image in images])
        self._made = False

    @torch.inference_mode()
    def step(self, actions: np.ndarray) -> Chunk:
        """All rows (B, N, 10) of the clips -> their frames but the first (B, N, H, W, 3). Raises ScopeError when asked
        for more than that."""
        model, stream, codec = self._world.model, self._world.spec.stream, self._world.model.codec
        if self._made:
            raise ScopeError("a clip that is made offline has no more frames; ask for a shorter trial")
        rows = torch.from_numpy(rows_of_step(actions, (len(self._seeds), self._world.spec.frames_per_chunk, 10)))
        rows = rows.to(model.device, model.dtype)
        first = model.first_latent(self._images)
        shape = (codec.config.latent_channels, 1, *first.shape[-2:])
        drawn = [[latent_noise(seed, index, shape) for index in range(self._world.latents)] for seed in self._seeds]
        noise = torch.stack([torch.cat(of_one, 1) for of_one in drawn]).to(first)
        conditions = Conditions(None, None, rows[..., : len(BUTTONS)], rows[..., len(BUTTONS) :])
        sampling = Sampling(stream.steps, stream.shift, 1.0, stream.action_guidance)
        velocity = GuidedVelocity(model.network, conditions, sampling, image_given=True)
        latents = denoise(velocity, noise, first, make_sigmas(stream.steps, stream.shift))
        if isinstance(codec, ProjectingCodec):
            latents = torch.cat([first, codec.project(latents[:, :, 1:])], 2)
        self._made = True
        decoder = codec.decoder()
        frames = np.concatenate([to_levels(decoder.push(one).float()).cpu().numpy() for one in latents.split(1, 2)], 1)
        return Chunk(frames[:, 1:], 0, {})

    def __enter__(self) -> OfflineGame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
