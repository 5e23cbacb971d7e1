"""Training nano's autoencoder: PCA first and for good, then the decoder's convolutional residual.

The loss is absolute error (sharp), squared error (PSNR) and the error of horizontal and vertical differences (edges),
with the weapon and HUD weighted up: they are few pixels and what a player looks at. The decoder sees slightly noisy
latents, because a world model's latents are never exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig, principal_components, to_patches, video_to_chunks
from scope_play.train.common import Average, generator, part
from scope_play.train.data import ClipSource
from scope_play.train.muon import MuonAdamW, OptimiserConfig, hidden_matrices
from scope_play.train.parallel import Gradients
from scope_play.train.sheet import contact_sheet, to_uint8


@dataclass(frozen=True)
class AutoencoderRecipe:
    clips: int = 4
    latents: int = 5
    pairs_per_clip: int = 2
    micro_batch: int = 4
    pca_clips: int = 80
    pca_chunks: int = 480
    squared: float = 2.0
    edges: float = 0.5
    mask_weight: float = 2.0
    latent_noise: float = 0.05
    average: float = 0.99
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=5e-3, adam_scale=0.6, weight_decay=0.0, warmup=20)
    )


@dataclass(frozen=True)
class Pairs:
    """Chunks and their predecessors, each (N, 3, 4, H, W), and the weight of each pixel (N, 1, 4, H, W)."""

    chunk: Tensor
    previous: Tensor
    weight: Tensor

    def split(self, size: int) -> list[Pairs]:
        parts = zip(self.chunk.split(size), self.previous.split(size), self.weight.split(size), strict=True)
        return [Pairs(*part) for part in parts]


class AutoencoderTrainer:
    def __init__(
        self,
        config: TinyVAEConfig,
        source: ClipSource,
        *,
        recipe: AutoencoderRecipe = AutoencoderRecipe(),
        seed: int = 0,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        threads: int = 1,
        fresh: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        self.model = TinyVAE(config).to(device)
        self.recipe, self._source, self._seed, self._device = recipe, source, seed, torch.device(device)
        self._bf16 = bf16
        if fresh:
            self._set_linear()
        # The PCA is already the best linear code, and its weights are a hundred times smaller than a usual step.
        self.model.encode_net.requires_grad_(False)
        self.model.decode_net.linear.requires_grad_(False)
        self._parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        matrices = [n for n in hidden_matrices(self.model, ("decode_net.residual",)) if _inside(n, self.model)]
        self._optimiser = MuonAdamW(self._parameters, matrices, recipe.optimiser)
        self._average = Average(self._parameters, recipe.average)
        self._gradients = Gradients(self._parameters, threads)

    def _set_linear(self) -> None:
        clips = self._source.clips(self.recipe.pca_clips, 9, "pca", 0)
        chosen = torch.randperm(9 * len(clips.frames), generator=generator(self._seed, "pca", 0))[
            : self.recipe.pca_chunks
        ]
        patches = to_patches(video_to_chunks(clips.video()).flatten(0, 1)[chosen])
        if clips.masks is not None:
            masks = torch.from_numpy(clips.masks)[:, None].float().expand(-1, 3, -1, -1, -1)
            marked = to_patches(video_to_chunks(masks).flatten(0, 1)[chosen]).mean(1) > 0.1
            patches = torch.cat([patches, patches[marked]])
        components, mean, deviations = principal_components(patches, self.model.config.latent_channels)
        self.model.set_linear(components, mean, deviations.clamp_min(1e-4))

    def batch(self, step: int) -> Pairs:
        recipe = self.recipe
        clips = self._source.clips(recipe.clips, recipe.latents, "autoencoder", step)
        draw = generator(self._seed, "pairs", step)
        chunks = video_to_chunks(clips.video())
        index = torch.randint(recipe.latents, (recipe.clips, recipe.pairs_per_clip), generator=draw)
        clip = torch.arange(recipe.clips)[:, None].expand_as(index)
        chunk, previous = chunks[clip, index].flatten(0, 1), chunks[clip, (index - 1).clamp(min=0)].flatten(0, 1)
        weight = torch.ones(len(chunk), 1, *chunk.shape[2:])
        if clips.masks is not None:
            masks = torch.from_numpy(clips.masks)[:, None].float()
            weight = 1 + recipe.mask_weight * video_to_chunks(masks)[clip, index].flatten(0, 1)
        return Pairs(chunk, previous, weight)

    def update(self, batch: Pairs, step: int) -> dict[str, float]:
        parts = batch.split(self.recipe.micro_batch)
        draws = [generator(self._seed, f"noise/{number}", step) for number in range(len(parts))]
        jobs = list(zip(parts, draws, strict=True))
        gradients, metrics = self._gradients(self._loss, jobs)
        metrics["gradient_norm"] = self._optimiser.update(gradients, step)
        self._average.update(self._parameters, step)
        return metrics

    def _loss(self, job: tuple[Pairs, torch.Generator]) -> tuple[Tensor, dict[str, Tensor]]:
        pairs, draw = job
        recipe = self.recipe
        chunk, weight = pairs.chunk.to(self._device), pairs.weight.to(self._device)
        count = len(chunk)
        latents = self.model.encode_chunk(torch.cat([chunk, pairs.previous.to(self._device)]))
        level = recipe.latent_noise * torch.rand(count, 1, 1, 1, generator=draw).repeat(2, 1, 1, 1)
        latents = latents + (level * torch.randn(latents.shape, generator=draw)).to(self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            decoded = self.model.decode_chunk(latents[:count], latents[count:])
        error = decoded.float() - chunk
        squared = (weight * error.square()).mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = (weight * error.abs()).mean() + recipe.squared * squared + recipe.edges * edges
        return loss, {"mse": error.detach().square().mean()}

    def averaged(self) -> TinyVAE:
        """A copy with the averaged weights, its latents normalised on fresh clips."""
        model = TinyVAE(self.model.config).to(self._device)
        model.load_state_dict(self.model.state_dict() | self._average.values)
        return normalised(model.eval(), self._source)

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        model = self.averaged()
        clips = self._source.clips(6, 9, "validation", 0)
        video = clips.video(self._device)
        with torch.inference_mode():
            chunks = video_to_chunks(video)
            latents = torch.stack([model.encode_chunk(c) for c in chunks.unbind(1)], 2)
            decoded = model.decode(latents)
        error = (decoded - video).square()
        figures = {"psnr": psnr(error)}
        if clips.masks is not None:
            mask = torch.from_numpy(clips.masks)[:, None].expand_as(error)
            figures["psnr_weapon"] = psnr(error[mask])
        rows = [to_uint8(shown[b, :, ::6]) for b in range(6) for shown in (video, decoded)]
        return figures, contact_sheet(rows)

    def state(self) -> dict[str, Tensor]:
        averaged = {f"average/{name}": value for name, value in self._average.values.items()}
        optimiser = {f"optimiser/{name}": value for name, value in self._optimiser.state().items()}
        return {f"model/{name}": value for name, value in self.model.state_dict().items()} | averaged | optimiser

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(part(tensors, "model"))
        self._average.load(part(tensors, "average"))
        self._optimiser.load_state(part(tensors, "optimiser"))

    def values(self) -> dict[str, Any]:
        return {
            "kind": "autoencoder",
            "model": asdict(self.model.config),
            "recipe": asdict(self.recipe),
            "seed": self._seed,
        }


def psnr(squared_error: Tensor) -> float:
    """Decibels, for errors of values in [-1, 1]."""
    return -10 * math.log10(float(squared_error.mean()) / 4 + 1e-12)


@torch.inference_mode()
def normalised(model: TinyVAE, source: ClipSource) -> TinyVAE:
    """Sets the latent statistics from fresh clips."""
    clips = source.clips(24, 9, "normalise", 0)
    chunks = video_to_chunks(clips.video(model.latent_mean.device)).flatten(0, 1)
    raw = torch.cat([model.encode_net(some) for some in chunks.split(16)])
    model.set_normalisation(raw.mean((0, 2, 3)), raw.std((0, 2, 3)).clamp_min(1e-4))
    return model


def _inside(name: str, model: TinyVAE) -> bool:
    """Whether this weight is neither the first nor the last layer of its residual network."""
    index = name.removeprefix("decode_net.residual.").split(".")[0]
    return index not in {"0", str(len(model.decode_net.residual) - 1)}
