"""The offline mode: a whole clip denoised at once, as the released weights were trained (SPEC.md section 1).

Every operation is rounded to the latents' dtype where the reference rounds, so bfloat16 clips match it step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.errors import ScopeError
from scope_play.images import frames_at_least, round_size, stretch, to_frames, to_video
from scope_play.kernels.text_attention import shorten
from scope_play.model.wan_vae.tiling import Tiling, cover
from scope_play.records import require_scales
from scope_play.sampling.guidance import Predictions, combine
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps

if TYPE_CHECKING:
    from scope_play.model.dit.block import PassPlan, TextKV
    from scope_play.model.dit.dit import DiT
    from scope_play.model.wan_vae.vae import WanVAE

Progress = Callable[[str, int, int], None]
"""Called with a stage ("steps" or "decode"), how much of it is done, and its total."""


@dataclass(frozen=True)
class ClipShape:
    """A clip's size in video frames and pixels, rounded up to what the networks can make."""

    frames: int = 81
    height: int = 480
    width: int = 832

    def __post_init__(self) -> None:
        height, width = round_size(self.height, self.width)
        object.__setattr__(self, "frames", frames_at_least(self.frames))
        object.__setattr__(self, "height", height)
        object.__setattr__(self, "width", width)

    @property
    def latents(self) -> int:
        """Latent frames: the first stands for one video frame, each later one for four."""
        return (self.frames - 1) // FRAMES_PER_LATENT + 1


@dataclass(frozen=True)
class Sampling:
    """How a clip is denoised.

    `guidance` scales the difference that the prompt makes, `action_guidance` the difference that the actions make;
    1 is off and saves a pass. A larger `shift` spends more of the steps at high noise.
    """

    steps: int = 30
    shift: float = 5.0
    guidance: float = 5.0
    action_guidance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_scales(self, "shift", "guidance", "action_guidance")
        make_sigmas(self.steps, self.shift)  # refuses an impossible schedule before anything is loaded


@dataclass(frozen=True)
class Conditions:
    """What a clip is made from, on the device and in the dtype of the network.

    `context` and `negative_context` are prompt embeddings (1, tokens, text_dim), None for a network without text.
    `buttons` (1, N, 6) and `sticks` (1, N, 4) have one row per video frame. `negative_context` may be None if text
    guidance is off.
    """

    context: Tensor | None
    negative_context: Tensor | None
    buttons: Tensor | None
    sticks: Tensor | None


class GuidedVelocity:
    """The network with one clip's conditions: text keys are computed once, for all steps.

    With `image_given`, latent frame 0 is the clean start image and gets timestep 0.
    """

    def __init__(self, dit: DiT, conditions: Conditions, sampling: Sampling, *, image_given: bool) -> None:
        self.dit = dit
        self.sampling = sampling
        self.image_given = image_given
        self.buttons, self.sticks = conditions.buttons, conditions.sticks
        self.has_actions = conditions.buttons is not None or conditions.sticks is not None
        negative = conditions.negative_context if sampling.guidance != 1 else None
        given = [context for context in (conditions.context, negative) if context is not None]
        texts = iter(dit.text_keys_of([shorten(context) for context in given]) if given else [])
        self.text = None if conditions.context is None else next(texts)
        self.negative_text = None if negative is None else next(texts)
        self.plans: dict[bool, PassPlan] = {}
        """With and without actions: what a block makes of them does not depend on the step."""

    def _plan(self, latents: Tensor, *, actions: bool) -> PassPlan:
        if actions not in self.plans:
            buttons, sticks = (self.buttons, self.sticks) if actions else (None, None)
            self.plans[actions] = self.dit.plan_clip(latents, buttons, sticks)
        return self.plans[actions]

    def predict(self, latents: Tensor, timestep: Tensor) -> Predictions:
        """The passes that guidance needs. latents (1, C, F, H, W), timestep a float32 scalar."""
        frames = latents.shape[2]
        values, index = timestep.reshape(1, 1), None
        if self.image_given:
            values = torch.cat([torch.zeros_like(values), values], dim=1)
            index = torch.ones(frames, dtype=torch.long)
            index[0] = 0
            index = index.to(latents.device)
        values = values.to(latents.device)

        def velocity(text: list[TextKV] | None, *, actions: bool = True) -> Tensor:
            return self.dit.predict(latents, values, self._plan(latents, actions=actions), text, index)

        full = velocity(self.text)
        negative = None if self.negative_text is None else velocity(self.negative_text)
        guide_actions = self.has_actions and self.sampling.action_guidance != 1
        return Predictions(full, negative, velocity(self.text, actions=False) if guide_actions else None)

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        predictions = self.predict(latents, timestep)
        return combine(predictions, self.sampling.guidance, self.sampling.action_guidance)


def draw_noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Standard normal noise from a seeded CPU generator, the same on every device and in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device=device, dtype=dtype)


def with_first_frame(latents: Tensor, first: Tensor | None) -> Tensor:
    """`latents` (1, C, F, H, W) with the start image's latents `first` (1, C, 1, H, W) in frame 0."""
    return latents if first is None else torch.cat([first, latents[:, :, 1:]], dim=2)


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The progress callback of whoever does not want to know."""


def denoise(
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    first: Tensor | None,
    sigmas: Tensor,
    progress: Progress = ignore_progress,
) -> Tensor:
    """The clip's latents from noise (1, C, F, H, W). `sigmas` as from `make_sigmas`.

    Raises ScopeError when they are not finite, naming the step.
    """
    latents = with_first_frame(noise, first)
    timesteps = make_timesteps(sigmas[:-1], noise.dtype)
    progress("steps", 0, len(timesteps))
    for step, timestep in enumerate(timesteps):
        moved = euler_step(latents, velocity(latents, timestep), sigmas[step], sigmas[step + 1])
        latents = with_first_frame(moved, first)
        if not latents.isfinite().all():
            raise ScopeError(
                f"the clip's latents are no numbers any more after step {step + 1} of {len(timesteps)}; use less "
                f"guidance, or another precision."
            )
        progress("steps", step + 1, len(timesteps))
    return latents


def encode_image(
    vae: WanVAE,
    image: np.ndarray,
    shape: ClipShape,
    tiling: Tiling | None,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """The latents (1, C, 1, h, w) of a start image, uint8 RGB (H, W, 3), which is stretched to the clip's size."""
    pixels = stretch(image, shape.height, shape.width)
    return vae.encode(to_video(pixels[None], dtype).to(device), tiling)


def decode_frames(vae: WanVAE, latents: Tensor, tiling: Tiling | None) -> Iterator[np.ndarray]:
    """Yields uint8 frames (n, H, W, 3): one latent frame at a time, or, when tiled, the whole clip."""
    if tiling is not None and len(cover(latents.shape[-2], latents.shape[-1], tiling)) > 1:
        yield to_frames(vae.decode(latents, tiling))
        return
    decoder = vae.decoder()
    for frame in latents.split(1, dim=2):
        yield to_frames(decoder.push(frame))


@torch.no_grad()
def generate_clip(
    dit: DiT,
    vae: WanVAE,
    conditions: Conditions,
    image: np.ndarray | None,
    shape: ClipShape,
    sampling: Sampling,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    tiling: Tiling | None = None,
    progress: Progress = ignore_progress,
) -> np.ndarray:
    """Makes a clip: uint8 frames (T, H, W, 3).

    Args:
        image: the start image, uint8 RGB of any size, stretched to the clip's; None starts from noise alone.
        dtype: what the networks' weights are in.
        tiling: VAE tiles, used only where the clip is larger than one tile.
    """
    stride = vae.config.spatial_stride
    size = (1, vae.config.latent_channels, shape.latents, shape.height // stride, shape.width // stride)
    noise = draw_noise(size, sampling.seed, dtype, device)
    first = None if image is None else encode_image(vae, image, shape, tiling, dtype=dtype, device=device)
    velocity = GuidedVelocity(dit, conditions, sampling, image_given=first is not None)
    latents = denoise(velocity, noise, first, make_sigmas(sampling.steps, sampling.shift), progress)
    frames: list[np.ndarray] = []
    done = 0
    for chunk in decode_frames(vae, latents, tiling):
        frames.append(chunk)
        done += len(chunk)
        progress("decode", done, shape.frames)
    return np.concatenate(frames)
