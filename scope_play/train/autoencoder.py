"""Nano's autoencoder: two fields that draw what is known of a moment, and a finder that recognises it in a picture.

Moments are drawn by the arena as they are needed and stay for a while in a pool, from which every step takes some cells
of some of them. The court is learned from pictures without weapon and HUD, the hand's layer over such true pictures, so
that neither has to wait for the other. Of the hand, cells in which it shows are taken more often, and so are moments in
which something unusual goes on: a blade is out for a few frames in a hundred, and that is when it is looked at. The
finder learns from whole pictures, with noise on them. The finish learns from windows of pictures as the fields draw
them, and the fields from what it makes of theirs.
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
from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.model.nano_codec.light_field import CELL, to_pictures
from scope_play.model.nano_codec.walkable import measure_walkable
from scope_play.train.cells import at_cells, colours, psnr, unusual, windows
from scope_play.train.data.pool import Pool
from scope_play.train.data.sources import MomentSource, pixels
from scope_play.train.loop import Average, generator, part
from scope_play.train.optim.micro_batches import Gradients
from scope_play.train.optim.muon import MuonAdamW, OptimiserConfig, hidden_matrices
from scope_play.train.sheet import contact_sheet, to_uint8


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Every step draws `fresh` moments into a pool of `pool`, and learns from `cells` cells of each of `moments` of
    them, from `pictures` whole ones for the finder, and for the finish from `finished` windows of `window` cells (rows
    and columns). Cells are taken in proportion to their contrast, `plain` of it being added to all. `elsewhere` is how
    often a cell without the hand is taken for its layer, beside one with it. `between` times oftener than others are
    moments taken in which the scope is half way up, a matter of five frames. `squared` weighs squared errors beside
    absolute ones. The finder sees noise of up to `picture_noise`, and where and which way count `place` times what else
    it finds. `fit` games give the features' mean, spread and bounds, and the ground. Only parameters whose names begin
    as one of `trained` learn.
    """

    pool: int = 6000
    fresh: int = 24
    moments: int = 64
    cells: int = 160
    pictures: int = 24
    finished: int = 8
    window: tuple[int, int] = (18, 20)
    plain: float = 0.1
    micro_batch: int = 32
    elsewhere: float = 0.02
    between: float = 4.0
    squared: float = 4.0
    picture_noise: float = 0.1
    place: float = 8.0
    fit: int = 20_000
    average: float = 0.998
    trained: tuple[str, ...] = ("",)
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(
            lr=5e-3, adam_scale=0.4, weight_decay=0.0, warmup=100, max_norm=10.0, newton_schulz_steps=3
        )
    )


@dataclass(frozen=True)
class Batch:
    """Of N moments: features (N, F), cells (N, P) by number and what the court shows there (N, P, 48). Of N others, for
    the hand's layer: features, cells, what is behind it, and what shows. Of K windows of others: features, cells, what
    shows, and which of these cells count. Of M others, none when the finder does not learn: pictures (M, 3, H, W) and
    features."""

    seen_from: Tensor
    court_cells: Tensor
    court: Tensor
    held: Tensor
    hand_cells: Tensor
    behind: Tensor
    shown: Tensor
    drawn_from: Tensor
    window_cells: Tensor
    window_shown: Tensor
    window_counts: Tensor
    pictures: Tensor
    known: Tensor

    def split(self, size: int) -> list[Batch]:
        lengths = [len(some) for some in (self.seen_from, self.held, self.drawn_from, self.known) if len(some) > 0]
        count = min(-(-max(lengths) // size), *lengths)  # every part has some of everything
        tensors = [getattr(self, name) for name in self.__dataclass_fields__]
        return [Batch(*some) for some in zip(*(tensor.tensor_split(count) for tensor in tensors), strict=True)]


class AutoencoderTrainer:
    def __init__(
        self,
        config: NanoCodecConfig,
        source: MomentSource,
        *,
        recipe: AutoencoderRecipe = AutoencoderRecipe(),
        seed: int = 0,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        threads: int = 1,
        workers: int = 0,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`workers` processes draw moments ahead. `start` holds a model's weights to go on from; without it the
        features' mean, spread and bounds are measured.

        Raises ScopeError when the model is not made for as many features as the simulator has.
        """
        torch.manual_seed(seed)
        self.model = NanoCodec(config).to(device)
        self.recipe, self._source, self._seed, self._device = recipe, source, seed, torch.device(device)
        rows, columns = (min(wanted, side // CELL) for wanted, side in zip(recipe.window, config.frame, strict=True))
        self._window = rows, columns
        self._bf16 = bf16
        if start is None:
            self._fit()
        else:
            self.model.load_state_dict(start)
        self._pool = Pool(source, recipe.fresh, recipe.pool, self._device, workers)
        self._parameters = {
            name: parameter for name, parameter in self.model.named_parameters() if name.startswith(recipe.trained)
        }
        hidden = hidden_matrices(self.model, ("field.court.hidden", "field.hand.hidden", "finder.think"))
        matrices = [name for name in hidden if name in self._parameters]
        self._optimiser = MuonAdamW(self._parameters, matrices, recipe.optimiser)
        self._average = Average(self._parameters, recipe.average)
        self._gradients = Gradients(self._parameters, threads)

    @torch.no_grad()
    def _fit(self) -> None:
        known = torch.from_numpy(self._source.known(self.recipe.fit, "fit", 0))
        if known.shape[1] != self.model.config.features:
            raise ScopeError(
                f"the simulator knows {known.shape[1]} features of a frame, but the codec is made for "
                f"{self.model.config.features}; give it latent_channels {4 * known.shape[1]}"
            )
        self.model.feature_mean.copy_(known.mean(0).repeat(4))
        self.model.feature_std.copy_(known.std(0).clamp_min(0.1).repeat(4))
        self.model.feature_low.copy_(known.amin(0).repeat(4))
        self.model.feature_high.copy_(known.amax(0).repeat(4))
        stood = known[:, list(self.model.config.camera.place)]
        self.model.ground.copy_(measure_walkable(stood, self.model.config.ground))

    def batch(self, step: int) -> Batch:
        recipe, pool = self.recipe, self._pool.at(step)
        draw = generator(self._seed, "batch", step, self._device)
        state, camera = self.model.state(pool.features), self.model.config.camera

        eye = [camera.height, camera.pitch, camera.aim]
        seen_from = self._chosen(1 + unusual(state[:, eye]), draw, self._count(recipe.moments, "field.court"))
        court_cells = self._cells(pool.court_contrast[seen_from], draw)
        aim = pool.features[:, camera.aim].clamp(0, 1)
        busy = unusual(state) + recipe.between * 4 * aim * (1 - aim)
        rare = self._chosen(busy, draw, self._count(recipe.moments, "field.hand"))
        behind, shown = pool.court[rare], pool.frames[rare]
        held = (behind != shown).any(-1).float() + recipe.elsewhere
        hand_cells = self._cells(pool.frames_contrast[rare], draw, held)
        drawn = self._chosen(1 + busy, draw, self._count(recipe.finished, "field.finish"))
        window_cells, window_counts = windows(self.model.config.frame, self._window, len(drawn), draw)
        count = self._count(recipe.pictures, "finder")
        looked = torch.randint(len(state), (count,), generator=draw, device=self._device)
        return Batch(
            seen_from=pool.features[seen_from],
            court_cells=court_cells,
            court=colours(pool.court[seen_from[:, None], court_cells]),
            held=pool.features[rare],
            hand_cells=hand_cells,
            behind=colours(at_cells(behind, hand_cells)),
            shown=colours(at_cells(shown, hand_cells)),
            drawn_from=pool.features[drawn],
            window_cells=window_cells,
            window_shown=colours(pool.frames[drawn[:, None], window_cells]),
            window_counts=window_counts,
            pictures=to_pictures(colours(pool.frames[looked]), self.model.config.frame) * 2 - 1,
            known=pool.features[looked],
        )

    def _cells(self, contrast: Tensor, draw: torch.Generator, weight: Tensor | float = 1.0) -> Tensor:
        """Numbers (N, `cells`) of cells of pictures of contrast (N, every cell)."""
        wanted = (colours(contrast) + self.recipe.plain) * weight
        if len(wanted) == 0:
            return torch.zeros(0, self.recipe.cells, dtype=torch.long, device=wanted.device)
        return torch.multinomial(wanted, self.recipe.cells, replacement=True, generator=draw)

    def _count(self, wanted: int, part: str) -> int:
        """How many to take for a part of the model: none if it does not learn."""
        return wanted if any(name.startswith(part) for name in self._parameters) else 0

    def _chosen(self, weight: Tensor, draw: torch.Generator, count: int) -> Tensor:
        """Numbers of `count` moments of the pool, taken in proportion to `weight` (N,)."""
        if count == 0:
            return torch.zeros(0, dtype=torch.long, device=weight.device)
        return torch.multinomial(weight, count, replacement=True, generator=draw)

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        parts = batch.split(self.recipe.micro_batch)
        draws = [generator(self._seed, f"noise/{number}", step, self._device) for number in range(len(parts))]
        gradients, metrics = self._gradients(self._loss, list(zip(parts, draws, strict=True)))
        norm = metrics["gradient_norm"] = self._optimiser.update(gradients, step)
        if math.isfinite(norm):
            self._average.update(self._parameters, step)
        return metrics

    def _loss(self, job: tuple[Batch, torch.Generator]) -> tuple[Tensor, dict[str, Tensor]]:
        batch, draw = job
        model = self.model
        terms: dict[str, Tensor] = {}
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            if len(batch.seen_from) > 0:
                state = model.state(batch.seen_from)
                court = model.field.behind(batch.seen_from, state, batch.court_cells) - batch.court
                terms["court"] = self._miss(court)
            if len(batch.held) > 0:
                hand = model.field.over(batch.behind, model.state(batch.held), batch.hand_cells) - batch.shown
                terms["hand"] = self._miss(hand)
        if len(batch.drawn_from) > 0:
            terms["finish"] = self._seams(batch)
        if len(batch.pictures) > 0:
            terms["finding"] = self._finding(batch, draw)
        return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}

    def _finding(self, batch: Batch, draw: torch.Generator) -> Tensor:
        """What the finder misses in pictures with noise on them."""
        model, camera = self.model, self.model.config.camera
        level = self.recipe.picture_noise * torch.rand(len(batch.pictures), 1, 1, 1, generator=draw, device=draw.device)
        noise = level * torch.randn(batch.pictures.shape, generator=draw, device=draw.device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            found = model.finder(batch.pictures + noise).float()
        missed = (found - model.state(batch.known)).square().mean(0)
        counted = torch.ones_like(missed)
        counted[[*camera.place, *camera.heading]] = self.recipe.place
        return (missed * counted).mean()

    def _seams(self, batch: Batch) -> Tensor:
        """What the whole decoder leaves wrong, in colours and in their steps from pixel to pixel."""
        model, (rows, columns) = self.model, self._window
        known, cells = batch.drawn_from, batch.window_cells
        state = model.state(known)
        learns = any(self._count(1, part) for part in ("field.court", "field.hand"))
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            with torch.set_grad_enabled(learns):
                rough = model.field.over(model.field.behind(known, state, cells), state, cells)
            finished = rough + model.field.finish(rough, rows)
        counts = batch.window_counts[..., None].float()
        error = to_pictures((finished.float() - batch.window_shown) * counts, (rows * CELL, columns * CELL))
        steps = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return (self._miss(error) + steps) / counts.mean()

    def _miss(self, error: Tensor) -> Tensor:
        return error.abs().mean() + self.recipe.squared * error.square().mean()

    def averaged(self) -> NanoCodec:
        """A copy with the averaged weights."""
        model = NanoCodec(self.model.config).to(self._device)
        model.load_state_dict(self.model.state_dict() | self._average.values)
        return model.eval()

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """How true the pictures are: of what is known, in the weapon and HUD, and of what is found in the picture."""
        model, drawn = self.averaged(), self._source.moments(160, "validation", 0)
        video, court = (pixels(frames, self._device) for frames in (drawn.frames, drawn.court))
        known = torch.from_numpy(drawn.features).to(self._device)
        with torch.inference_mode():
            found = model.found(video)
            shown, recognised = (
                torch.cat([model.field(few, model.state(few)).clamp(-1, 1) for few in some.split(8)])
                for some in (known, found)
            )
        error, hand = (shown - video).square(), (video != court).any(1, keepdim=True).expand_as(video)
        missed = (model.state(found) - model.state(known)).square().mean(0)
        where = [*model.config.camera.place, *model.config.camera.heading]
        figures = {
            "psnr": psnr(error),
            "psnr_weapon": psnr(error[hand]),
            "psnr_recognised": psnr((recognised - video).square()),
            "place_found": float(missed[where].mean()),
        }
        rows = [
            to_uint8(some[first : first + 8].transpose(0, 1)) for first in (0, 8) for some in (video, shown, recognised)
        ]
        return figures, contact_sheet(rows)

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
            "kind": "autoencoder",
            "model": asdict(self.model.config),
            "recipe": asdict(self.recipe),
            "seed": self._seed,
            "cooling": self._optimiser.config.decay,
        }
