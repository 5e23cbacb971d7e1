"""Nano's autoencoder: principal components by algebra, then three networks around them.

First both linear maps are fitted to chunks drawn for it, and `samples` more chunks are kept as pairs of what the
simulator knows (`train.states`) and what a picture's components are. The renderer learns the one from the other and the
finder the other from the one, on hundreds of pairs a step: they cost a thousandth of drawing them. Every few steps some
freshly drawn chunks teach the correction, which sharpens what the renderer draws. Weapon and HUD count more: they are
few pixels and what a player looks at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig, to_patches
from scope_play.train.common import Average, generator, part
from scope_play.train.data import Chunks, ChunkSource
from scope_play.train.muon import MuonAdamW, OptimiserConfig, hidden_matrices
from scope_play.train.parallel import Gradients
from scope_play.train.sheet import contact_sheet, to_uint8


@dataclass(frozen=True)
class AutoencoderRecipe:
    """`fit_batches` batches of `fit_chunks` chunks fit the linear maps, then `samples` chunks are kept as pairs, and a
    step learns from `pairs` of them. Every `correct_every`-th step draws `chunks` fresh ones. Noise is the largest
    spread added to inputs of spread 1. `unseen` is what errors of the finder count that the picture does not show;
    `squared` and `edges` weigh terms of the correction's loss.
    """

    fit_batches: int = 48
    fit_chunks: int = 250
    samples: int = 150_000
    pairs: int = 384
    micro_batch: int = 384
    correct_every: int = 4
    chunks: int = 12
    mask_weight: float = 4.0
    feature_noise: float = 0.02
    component_noise: float = 0.4
    unseen: float = 0.02
    squared: float = 2.0
    edges: float = 0.5
    average: float = 0.995
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=1e-3, adam_scale=1.0, weight_decay=0.01, warmup=100, muon=False)
    )


@dataclass(frozen=True)
class Batch:
    """Pairs: latents (N, C) and picture components (N, n). Fresh chunks, perhaps none: latents (M, C), frames
    (M, 3, 4, H, W) and the weight of each pixel (M, 1, 4, H, W)."""

    latents: Tensor
    components: Tensor
    fresh: Tensor
    frames: Tensor
    weight: Tensor

    def split(self, size: int) -> list[Batch]:
        count = -(-len(self.latents) // size)
        tensors = (self.latents, self.components, self.fresh, self.frames, self.weight)
        return [Batch(*some) for some in zip(*(tensor.tensor_split(count) for tensor in tensors), strict=True)]


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
        """`start` holds a model's weights to go on from; without it the linear maps are fitted first.

        Raises ScopeError when the source's chunks come without the simulator's features.
        """
        torch.manual_seed(seed)
        self.model = TinyVAE(config).to(device)
        self.recipe, self._source, self._seed, self._device = recipe, source, seed, torch.device(device)
        self._bf16 = bf16
        if start is None:
            self._fit()
        else:
            self.model.load_state_dict(start)
        self._latents, self._components = self._sample()
        self._parameters = dict(self.model.named_parameters())
        self._optimiser = MuonAdamW(
            self._parameters, hidden_matrices(self.model, ("renderer.blocks", "finder.blocks")), recipe.optimiser
        )
        self._average = Average(self._parameters, recipe.average)
        self._gradients = Gradients(self._parameters, threads)

    @torch.no_grad()
    def _fit(self) -> None:
        recipe, model = self.recipe, self.model
        first = self._source.chunks(recipe.fit_chunks, "fit", 0)
        shown, masked = to_patches(first.video(self._device)), self._masked(first)
        flat, marked = shown.flatten(0, 1), masked.flatten() > 0.1
        chosen = torch.randperm(len(flat), generator=generator(self._seed, "fit", 0))[:8000].to(self._device)
        model.fit_patches(torch.cat([flat[chosen], flat[chosen][marked[chosen]]]))
        components, features = [], []
        for batch in range(recipe.fit_batches):
            drawn = self._source.chunks(recipe.fit_chunks, "fit", batch)
            components.append(model.patch_components(drawn.video(self._device)))
            features.append(_features(drawn))
        model.fit_pictures(torch.cat(components), 1 + recipe.mask_weight * masked.mean(0))
        known = torch.cat(features)
        model.feature_mean.copy_(known.mean(0))
        model.feature_std.copy_(known.std(0).clamp_min(0.1))

    @torch.no_grad()
    def _sample(self) -> tuple[Tensor, Tensor]:
        latents, components = [], []
        for batch in range(-(-self.recipe.samples // 250)):
            drawn = self._source.chunks(min(250, self.recipe.samples), "samples", batch)
            patches = self.model.patch_components(drawn.video(self._device))
            components.append(self.model.picture_components(patches).half())
            latents.append(self.model.from_features(_features(drawn).to(self._device)))
        return torch.cat(latents), torch.cat(components)

    def _masked(self, chunks: Chunks) -> Tensor:
        """(N, patches): the share of each patch that is weapon or HUD."""
        if chunks.masks is None:
            return torch.zeros(len(chunks.frames), len(self.model.place_weight), device=self._device)
        masks = torch.from_numpy(chunks.masks)[:, None].float().expand(-1, 3, -1, -1, -1)
        return to_patches(masks).mean(-1).to(self._device)

    def batch(self, step: int) -> Batch:
        recipe = self.recipe
        draw = generator(self._seed, "pairs", step)
        index = torch.randint(len(self._latents), (recipe.pairs,), generator=draw).to(self._device)
        pairs = self._latents[index], self._components[index].float()
        if step % recipe.correct_every:
            nothing = torch.empty(0, device=self._device)
            return Batch(*pairs, nothing, nothing, nothing)
        drawn = self._source.chunks(recipe.chunks, "autoencoder", step)
        frames = drawn.video(self._device)
        weight = torch.ones_like(frames[:, :1])
        if drawn.masks is not None:
            weight += recipe.mask_weight * torch.from_numpy(drawn.masks)[:, None].to(weight)
        return Batch(*pairs, self.model.from_features(_features(drawn).to(self._device)), frames, weight)

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        parts = batch.split(self.recipe.micro_batch)
        draws = [generator(self._seed, f"noise/{number}", step) for number in range(len(parts))]
        gradients, metrics = self._gradients(self._loss, list(zip(parts, draws, strict=True)))
        metrics["gradient_norm"] = self._optimiser.update(gradients, step)
        self._average.update(self._parameters, step)
        return metrics

    def _loss(self, job: tuple[Batch, torch.Generator]) -> tuple[Tensor, dict[str, Tensor]]:
        batch, draw = job
        recipe, model = self.recipe, self.model
        latents = batch.latents + recipe.feature_noise * self._noise(batch.latents.shape, draw)
        level = recipe.component_noise * torch.rand(len(latents), 1, generator=draw).to(self._device)
        components = batch.components + level * self._noise(batch.components.shape, draw)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            drawing = self._missed(latents, batch.components)
            found = model.finder(components).float()
            # The finder is judged by the picture of what it finds; that picture is not the renderer's fault.
            seen = found.detach().requires_grad_(True)
            judged = self._missed(seen, batch.components)
        (slope,) = torch.autograd.grad(judged, seen)
        recognising = judged.detach() + ((found - seen.detach()) * slope).sum()
        finding = (found - batch.latents).square().mean()
        metrics = {"drawing": drawing.detach(), "recognising": recognising.detach(), "finding": finding.detach()}
        loss = drawing + recognising + recipe.unseen * finding
        if len(batch.frames):
            loss = loss + self._sharpness(batch)
        return loss, metrics

    def _missed(self, latents: Tensor, components: Tensor) -> Tensor:
        """Mean squared error, in pixels, of the components drawn from latents: they are orthonormal but for the weight
        of places."""
        model, (height, width) = self.model, self.model.config.frame
        drawn = model.renderer(latents * model.feature_std + model.feature_mean).float()
        return ((drawn - components) * model.picture_std).square().sum(1).mean() / (3 * 4 * height * width)

    def _sharpness(self, batch: Batch) -> Tensor:
        model = self.model
        with torch.no_grad():
            components = model.renderer(batch.fresh * model.feature_std + model.feature_mean)
            soft = model.draw(model.to_patches(components))
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            error = model.correct(soft).float() - batch.frames
        squared = (batch.weight * error.square()).mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return (batch.weight * error.abs()).mean() + self.recipe.squared * squared + self.recipe.edges * edges

    def _noise(self, shape: torch.Size, draw: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=draw).to(self._device)

    def averaged(self) -> TinyVAE:
        """A copy with the averaged weights."""
        model = TinyVAE(self.model.config).to(self._device)
        model.load_state_dict(self.model.state_dict() | self._average.values)
        return model.eval()

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """What the linear maps keep, what is drawn from true features, and what from features found in the picture."""
        model = self.averaged()
        drawn = self._source.chunks(120, "validation", 0)
        video = drawn.video(self._device)
        with torch.inference_mode():
            kept = model.draw(model.to_patches(model.picture_components(model.patch_components(video))))
            known = model.from_features(_features(drawn).to(self._device))[..., None, None]
            shown, recognised = (model.decode_chunk(some).clamp(-1, 1) for some in (known, model.encode_chunk(video)))
        error = (shown - video).square()
        figures = {"psnr_linear": psnr((kept.clamp(-1, 1) - video).square()), "psnr": psnr(error)}
        figures["psnr_recognised"] = psnr((recognised - video).square())
        if drawn.masks is not None:
            figures["psnr_weapon"] = psnr(error[torch.from_numpy(drawn.masks)[:, None].expand_as(error)])
        rows = [to_uint8(some[b : b + 8, :, 3].transpose(0, 1)) for b in (0, 8) for some in (video, shown, recognised)]
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
        self._latents, self._components = self._sample()

    def values(self) -> dict[str, Any]:
        return {
            "kind": "autoencoder",
            "model": asdict(self.model.config),
            "recipe": asdict(self.recipe),
            "seed": self._seed,
        }


def _features(chunks: Chunks) -> Tensor:
    if chunks.features is None:
        raise ScopeError("nano's autoencoder learns from the simulator's states, which clips lack; leave out --clips")
    return torch.from_numpy(chunks.features)


def psnr(squared_error: Tensor) -> float:
    """Decibels, for errors of values in [-1, 1]."""
    return -10 * math.log10(float(squared_error.mean()) / 4 + 1e-12)
