"""Nano's autoencoder: principal components first and for good, then the decoder's correction.

Before the first step both linear maps are fitted to chunks drawn for it. Then the correction learns to draw the
true frames from what the inverse map makes of them. The loss is absolute error (sharp), squared error (PSNR) and
that of neighbours' differences (edges), with weapon and HUD weighted up: they are few pixels and what a player
looks at. The decoder sees slightly wrong latents, because a world model's are never exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig, to_patches
from scope_play.train.common import Average, generator, part
from scope_play.train.data import Chunks, ChunkSource
from scope_play.train.muon import MuonAdamW, OptimiserConfig, hidden_matrices
from scope_play.train.parallel import Gradients
from scope_play.train.sheet import contact_sheet, to_uint8


@dataclass(frozen=True)
class AutoencoderRecipe:
    """`fit_batches` batches of `fit_chunks` chunks fit the linear maps. `latent_noise` is the largest spread of the
    noise on latents, which have one of 1; `mask_weight` what weapon and HUD count more, in pixels and, in the fit, in
    patches full of them; `squared` and `edges` weigh terms of the loss beside the absolute error."""

    chunks: int = 32
    micro_batch: int = 16
    fit_batches: int = 48
    fit_chunks: int = 250
    mask_weight: float = 4.0
    latent_noise: float = 0.2
    squared: float = 2.0
    edges: float = 0.5
    average: float = 0.995
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=5e-3, adam_scale=0.3, weight_decay=0.0, warmup=20)
    )


@dataclass(frozen=True)
class Batch:
    """Chunks (N, 3, 4, H, W), and the weight of each pixel (N, 1, 4, H, W)."""

    chunk: Tensor
    weight: Tensor

    def split(self, size: int) -> list[Batch]:
        return [Batch(*some) for some in zip(self.chunk.split(size), self.weight.split(size), strict=True)]


class AutoencoderTrainer:
    def __init__(
        self,
        config: TinyVAEConfig,
        source: ChunkSource,
        *,
        recipe: AutoencoderRecipe = AutoencoderRecipe(),
        seed: int = 0,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        threads: int = 1,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`start` holds a model's weights to go on from; without it the linear maps are fitted first."""
        torch.manual_seed(seed)
        self.model = TinyVAE(config)
        self.recipe, self._source, self._seed, self._device = recipe, source, seed, torch.device(device)
        self._bf16 = bf16
        if start is None:
            self._fit()
        else:
            self.model.load_state_dict(start)
        self.model.to(device)
        self._parameters = dict(self.model.named_parameters())
        self._optimiser = MuonAdamW(
            self._parameters, hidden_matrices(self.model, ("correction.blocks",)), recipe.optimiser
        )
        self._average = Average(self._parameters, recipe.average)
        self._gradients = Gradients(self._parameters, threads)

    @torch.no_grad()
    def _fit(self) -> None:
        recipe = self.recipe
        first = self._source.chunks(recipe.fit_chunks, "fit", 0)
        shown, masked = to_patches(first.video()), self._masked(first)
        draw = generator(self._seed, "fit", 0)
        flat, marked = shown.flatten(0, 1), masked.flatten() > 0.1
        chosen = torch.randperm(len(flat), generator=draw)[:8000]
        self.model.fit_patches(torch.cat([flat[chosen], flat[chosen][marked[chosen]]]))
        components = [self.model.patch_components(first.video())]
        for batch in range(1, recipe.fit_batches):
            drawn = self._source.chunks(recipe.fit_chunks, "fit", batch)
            components.append(self.model.patch_components(drawn.video()))
        self.model.fit_pictures(torch.cat(components), 1 + recipe.mask_weight * masked.mean(0))

    def _masked(self, chunks: Chunks) -> Tensor:
        """(N, patches): the share of each patch that is weapon or HUD."""
        if chunks.masks is None:
            return torch.zeros(len(chunks.frames), len(self.model.place_weight))
        masks = torch.from_numpy(chunks.masks)[:, None].float().expand(-1, 3, -1, -1, -1)
        return to_patches(masks).mean(-1)

    def batch(self, step: int) -> Batch:
        drawn = self._source.chunks(self.recipe.chunks, "autoencoder", step)
        chunk = drawn.video(self._device)
        weight = torch.ones_like(chunk[:, :1])
        if drawn.masks is not None:
            weight += self.recipe.mask_weight * torch.from_numpy(drawn.masks)[:, None].to(weight)
        return Batch(chunk, weight)

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        parts = batch.split(self.recipe.micro_batch)
        draws = [generator(self._seed, f"noise/{number}", step) for number in range(len(parts))]
        gradients, metrics = self._gradients(self._loss, list(zip(parts, draws, strict=True)))
        metrics["gradient_norm"] = self._optimiser.update(gradients, step)
        self._average.update(self._parameters, step)
        return metrics

    def _loss(self, job: tuple[Batch, torch.Generator]) -> tuple[Tensor, dict[str, Tensor]]:
        batch, draw = job
        recipe = self.recipe
        with torch.no_grad():
            latent = self.model.encode_chunk(batch.chunk)[..., 0, 0]
            level = recipe.latent_noise * torch.rand(len(latent), 1, generator=draw) ** 2
            latent = latent + (level * torch.randn(latent.shape, generator=draw)).to(self._device)
            drawn = self.model.draw(self.model.decode_patches(latent))
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            decoded = self.model.correct(drawn)
        error = decoded.float() - batch.chunk
        squared = (batch.weight * error.square()).mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = (batch.weight * error.abs()).mean() + recipe.squared * squared + recipe.edges * edges
        return loss, {"mse": error.detach().square().mean()}

    def averaged(self) -> TinyVAE:
        """A copy with the averaged weights."""
        model = TinyVAE(self.model.config).to(self._device)
        model.load_state_dict(self.model.state_dict() | self._average.values)
        return model.eval()

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        model = self.averaged()
        drawn = self._source.chunks(120, "validation", 0)
        video = drawn.video(self._device)
        with torch.inference_mode():
            latents = model.encode_chunk(video)
            noisy = latents + 0.3 * torch.randn(latents.shape, generator=generator(0, "validation", 0)).to(video)
            decoded, worse = (model.decode_chunk(some).clamp(-1, 1) for some in (latents, noisy))
        error = (decoded - video).square()
        figures = {"psnr": psnr(error), "psnr_noisy": psnr((worse - video).square())}
        if drawn.masks is not None:
            figures["psnr_weapon"] = psnr(error[torch.from_numpy(drawn.masks)[:, None].expand_as(error)])
        rows = [
            to_uint8(torch.cat([shown[b : b + 8, :, 3] for b in (0, 8)]).transpose(0, 1)) for shown in (video, decoded)
        ]
        rows = [row[part] for part in (slice(0, 8), slice(8, 16)) for row in rows]
        return figures, contact_sheet(rows)

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
            "kind": "autoencoder",
            "model": asdict(self.model.config),
            "recipe": asdict(self.recipe),
            "seed": self._seed,
        }


def psnr(squared_error: Tensor) -> float:
    """Decibels, for errors of values in [-1, 1]."""
    return -10 * math.log10(float(squared_error.mean()) / 4 + 1e-12)
