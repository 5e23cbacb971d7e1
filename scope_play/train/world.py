"""Training the world model by flow matching under teacher forcing.

Two streams share one pass: the true latents as context, lightly noised so that the model learns to live with its own
errors, and the same latents as targets, each at its own noise level. Levels lean towards pure noise, because the model
will be sampled in one or two steps. Once it can predict, part of the context is replaced by its own predictions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.records import to_json
from scope_play.session.codec import Codec
from scope_play.train.data.games import Games
from scope_play.train.data.sources import ClipSource, split_rows
from scope_play.train.examples import Example, LatentClips
from scope_play.train.loop import Average, generator, part
from scope_play.train.optim.micro_batches import Gradients
from scope_play.train.optim.muon import MuonAdamW, OptimiserConfig, hidden_matrices
from scope_play.train.rollout import noise_like
from scope_play.train.segments import Segment, join, whole
from scope_play.train.validate import CLIPS, LATENTS, validate_world


@dataclass(frozen=True)
class WorldRecipe:
    """`own_context` is the share of context latents replaced by predictions, from step `own_context_after` on.

    Errors of each channel count by its scale (see WorldTrainer) to the power of `channel_weight`, and none for less
    than `least_weight` of the mean: what shows least is not what matters least. `sigmas` are the noise levels that
    rollouts, and later play, visit. Errors count by their square; those of a clean prediction also by their size, down
    to `exact`: what is wrong by a little in every latent adds up in play. A velocity has to be a mean.
    """

    clips: int = 40
    micro_batch: int = 20
    latents: int = 13
    window: int = 12
    context_noise: tuple[float, float] = (0.0, 0.0005)
    pure_noise: float = 1.0
    shift: float = 3.0
    lowest_sigma: float = 0.4
    action_dropout: float = 0.05
    own_context: float = 0.35
    own_context_after: int = 500
    channel_weight: float = 0.5
    least_weight: float = 0.3
    exact: float = 5e-4
    sigmas: tuple[float, ...] = (1.0,)
    average: float = 0.98
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=6e-3, adam_scale=0.4, newton_schulz_steps=3, warmup=20)
    )

    @property
    def most_latents(self) -> int:
        """Of the longest clip that is learned from."""
        return self.latents


class WorldTrainer:
    """Learns from `games`, or, without them, from the clips of `source` as `codec` encodes them.

    `channel_scale` (C,) is what errors of each latent channel count, to the power of the recipe's `channel_weight`.
    """

    kind = "world"

    def __init__(
        self,
        model: DiT,
        codec: Codec,
        source: ClipSource,
        *,
        recipe: WorldRecipe = WorldRecipe(),
        channel_scale: Tensor | None = None,
        games: Games | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        threads: int = 1,
    ) -> None:
        self.model, self.codec = model.to(device), codec
        self.recipe, self._source, self._seed, self._games = recipe, source, seed, games
        self._device, self._bf16 = torch.device(device), bf16
        self._parameters = dict(model.named_parameters())
        self._optimiser = MuonAdamW(self._parameters, hidden_matrices(model, ("blocks.",)), recipe.optimiser)
        self._average = Average(self._parameters, recipe.average)
        self._gradients = Gradients(self._parameters, threads)
        scale = (
            torch.ones(model.config.out_channels)
            if channel_scale is None
            else channel_scale.cpu() ** recipe.channel_weight
        )
        weight = (scale / scale.mean()).clamp_min(recipe.least_weight)
        self._weight = (weight / weight.mean()).to(device)[None, :, None, None, None]
        self._project = codec.project if isinstance(codec, NanoCodec) else None

    def batch(self, step: int) -> LatentClips:
        if self._games is not None:
            self._games.prepare(self._wanted, step)
        return self.encode(*self._wanted(step))

    def length(self, step: int) -> int:
        """Latents of the clips of this step."""
        return self.recipe.latents

    def _wanted(self, step: int) -> tuple[int, int, str, int]:
        return self.recipe.clips, self.length(step), self.kind, step

    def encode(self, batch: int, latents: int, purpose: str, step: int) -> LatentClips:
        if self._games is not None:
            encoded, rows = self._games.clips(batch, latents, purpose, step)
            return LatentClips(encoded.to(self._device), *split_rows(rows.numpy(), self._device))
        clips = self._source.clips(batch, latents, purpose, step)
        buttons, sticks = split_rows(clips.rows, self._device)
        return LatentClips(encode_video(self.codec, clips.video(self._device)), buttons, sticks)

    def update(self, batch: LatentClips, step: int) -> dict[str, float]:
        parts = batch.split(self.recipe.micro_batch)
        jobs = [(clips, step, number) for number, clips in enumerate(parts)]
        gradients, metrics = self._gradients(self._loss, jobs)
        norm = metrics["gradient_norm"] = self._optimiser.update(gradients, step)
        if math.isfinite(norm):
            self._average.update(self._parameters, step)
        return metrics

    def example(self, clips: LatentClips, step: int, draw: torch.Generator) -> Example:
        """Noise of all kinds on one micro-batch. `draw` decides everything."""
        recipe, device = self.recipe, self._device
        truth, segment = clips.latents, whole(clips.latents.shape[2])
        batch, targets = len(truth), truth[:, :, segment.targets]
        context = truth[:, :, segment.contexts]
        if recipe.own_context > 0 and step >= recipe.own_context_after:
            context = self._with_own(clips, segment, context, draw)
        context = self._noised(context, recipe.context_noise, draw)
        sigma = self._sigmas((batch, targets.shape[2]), draw)
        noise = noise_like(targets.shape, draw, device) * self.model.config.noise_scale
        mix = sigma[:, None, :, None, None]
        keep = (torch.rand(batch, generator=draw, device=draw.device) >= recipe.action_dropout).float().to(device)
        return Example(clips, segment, context, (1 - mix) * targets + mix * noise, sigma, noise - targets, keep)

    def _noised(self, context: Tensor, levels: tuple[float, float], draw: torch.Generator) -> Tensor:
        low, high = levels
        shape = (len(context), 1, context.shape[2], 1, 1)
        level = (low + (high - low) * torch.rand(shape, generator=draw, device=draw.device)).to(self._device)
        return (1 - level) * context + level * noise_like(context.shape, draw, self._device)

    def _sigmas(self, shape: tuple[int, int], draw: torch.Generator) -> Tensor:
        recipe = self.recipe
        uniform = torch.rand(shape, generator=draw, device=draw.device)
        shifted = recipe.shift * uniform / (1 + (recipe.shift - 1) * uniform)
        pure = torch.rand(shape, generator=draw, device=draw.device) < recipe.pure_noise
        return torch.where(pure, 1.0, shifted.clamp_min(recipe.lowest_sigma)).to(self._device)

    @torch.no_grad()
    def _with_own(self, clips: LatentClips, segment: Segment, context: Tensor, draw: torch.Generator) -> Tensor:
        """Context in which a random share of latents after the first is what the model predicts for them."""
        targets = clips.latents[:, :, segment.targets]
        noise = noise_like(targets.shape, draw, self._device) * self.model.config.noise_scale
        sigma = torch.ones(len(noise), noise.shape[2], device=self._device)
        predicted = noise - self.velocity(Example(clips, segment, context, noise, sigma, noise))
        if self._project is not None:
            predicted = self._project(predicted)
        shape = (len(noise), 1, noise.shape[2] - 1, 1, 1)
        chosen = torch.rand(shape, generator=draw, device=draw.device) < self.recipe.own_context
        later = torch.where(chosen.to(self._device), predicted[:, :, :-1], context[:, :, 1:])
        return torch.cat([context[:, :, :1], later], 2)

    def velocity(self, example: Example, model: nn.Module | None = None) -> Tensor:
        """The network's velocity for the example's targets, float32."""
        inputs, timesteps = join(example.context, example.noisy, example.sigma)
        with self._autocast():
            output = (model or self.model)(
                inputs,
                timesteps,
                layout=example.segment.layout(self.recipe.window),
                buttons=example.clips.buttons,
                sticks=example.clips.sticks,
                action_keep=example.keep,
            )
        return output[:, :, example.context.shape[2] :].float()

    def _loss(self, job: tuple[LatentClips, int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        clips, step, number = job
        draw = generator(self._seed, f"{self.kind}/noise/{number}", step, self._device)
        example = self.example(clips, step, draw)
        missed = self.velocity(example) - example.velocity
        clean = missed.detach().square() * self._weight * example.sigma[:, None, :, None, None].square()
        error = cost(missed, self.model.config.prediction, self.recipe.exact) * self._weight
        if example.trust is not None:
            error = error * example.trust[:, None, :, None, None]
        return error.mean(), {"clean_error": clean.mean()}

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def averaged(self) -> DiT:
        """A copy of the network with the averaged weights."""
        model = DiT(self.model.config).to(self._device)
        model.load_state_dict(self.model.state_dict() | self._average.values)
        return model.eval()

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        # Recordings may be too short for more than what is learned from.
        latents = LATENTS if self._games is not None else min(LATENTS, self.recipe.most_latents)
        clips = self.encode(CLIPS, latents, "validation", 0)
        recipe = self.recipe
        return validate_world(
            self.averaged(), self.codec, clips, window=recipe.window, sigmas=recipe.sigmas, velocity=self.velocity
        )

    def cool(self, first: int, last: int) -> None:
        self._optimiser.cool(first, last)

    def state(self) -> dict[str, Tensor]:
        groups = {
            "model": self.model.state_dict(),
            "average": self._average.values,
            "optimiser": self._optimiser.state(),
        }
        return {f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(part(tensors, "model"))
        self._average.load(part(tensors, "average"))
        self._optimiser.load_state(part(tensors, "optimiser"))

    def values(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "model": to_json(self.model.config),
            "recipe": asdict(self.recipe),
            "seed": self._seed,
            "cooling": self._optimiser.config.decay,
        }


def cost(missed: Tensor, prediction: str, exact: float) -> Tensor:
    """What errors of a network that predicts this count, entry by entry; see WorldRecipe."""
    if prediction == "velocity":
        return missed.square()
    return torch.sqrt(missed.square() + exact**2) - exact + missed.square()


@torch.no_grad()
def encode_video(codec: Codec, video: Tensor) -> Tensor:
    """(B, 3, 1+4n, H, W) -> (B, C, 1+n, h, w)."""
    stream = codec.encoder()
    chunks: Sequence[Tensor] = [video[:, :, :1], *video[:, :, 1:].split(4, 2)] if video.shape[2] > 1 else [video]
    return torch.cat([stream.push(chunk) for chunk in chunks], 2)


_SILENT = re.compile(
    r"(attn\.o|keyboard_o_proj|ffn\.2|head\.head)\.(weight|bias)$|^head\.modulation$|^time_projection\.1\.bias$"
    r"|^action_modulation\.2\."
)


@torch.no_grad()
def initialise(model: DiT, seed: int) -> DiT:
    """Weights to start from: every branch adds nothing yet, gates are open, time matters little, the output is zero."""
    torch.manual_seed(seed)
    model.load_state_dict(DiT(model.config).state_dict())
    for name, parameter in model.named_parameters():
        if _SILENT.search(name):
            parameter.zero_()
        elif name == "time_projection.1.weight":
            parameter.mul_(0.1)
        elif name.startswith("blocks.") and name.endswith(".modulation"):
            parameter.zero_()[:, [2, 5]] = 1
    return model
