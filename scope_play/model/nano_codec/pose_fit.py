"""Features of a picture by analysis by synthesis: draw what the finder found, compare, and correct.

The finder's answer and guesses around it are drawn and compared with the picture; the best few are refined by
Levenberg-Marquardt, first the camera alone, then all features of the best one. Derivatives are finite differences, so
nothing here needs autograd, and every picture takes the same steps whatever it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor

from scope_play.model.nano_codec.light_field import CELL, SIGHT, CameraConfig, LightField, to_cells, with_sight

MOVES = 5
"""x, y, heading, pitch, height: what of the camera may change."""


class PictureModel(Protocol):
    """What a fit asks of a codec: a first answer, the drawing, and how features are scaled."""

    @property
    def config(self) -> Any: ...

    @property
    def field(self) -> LightField: ...

    def found(self, frames: Tensor) -> Tensor: ...

    def state(self, features: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PoseFit:
    """How a picture is fitted, by Levenberg-Marquardt on the difference between what is drawn and what is shown.

    First the camera: `guesses` around the finder's answer, `spread` as far as it may be off (court halves, radians,
    units of pitch and of height); the `kept` best take `steps` solver steps on `cells` cells of the picture. Then all
    features of the best one: `feature_steps` steps on `feature_cells` cells, up to half of them under weapon and HUD,
    with `trust` as the weight of a prior on what was found, since a picture does not show every feature. `nudge`: step
    of the finite differences, in units of the spread. `damping`: the first one.
    """

    guesses: int = 192
    kept: int = 6
    steps: int = 12
    cells: int = 96
    spread: tuple[float, ...] = (0.15, 0.15, 0.25, 0.2, 0.3)
    feature_steps: int = 3
    feature_cells: int = 240
    trust: float = 1.0
    nudge: float = 0.02
    damping: float = 0.05


def fit_pose(codec: PictureModel, frames: Tensor, fit: PoseFit | None = None) -> tuple[Tensor, Tensor]:
    """Frames (N, 3, H, W) in [-1, 1] -> their features (N, F), as they are, and by how much what is drawn of them
    misses the frames (N,): the mean squared error of colours in [0, 1], over the cells compared. One by one: company
    must not matter."""
    fit = fit or PoseFit()
    found = [_look(codec, frame[None], fit) for frame in frames]
    return torch.cat([features for features, _ in found]), torch.cat([missed for _, missed in found])


def _look(codec: PictureModel, frame: Tensor, fit: PoseFit) -> tuple[Tensor, Tensor]:
    found = codec.found(frame).float()
    camera, device = codec.config.camera, frame.device
    draw = torch.Generator().manual_seed(0)  # the same picture is always seen alike
    order = torch.randperm(codec.config.frame[0] * codec.config.frame[1] // CELL**2, generator=draw).to(device)
    guesses = torch.randn(fit.guesses, MOVES, generator=draw).to(device)
    guesses[0] = 0
    spread = torch.tensor(fit.spread, device=device)
    shown = to_cells((frame.movedim(1, -1) + 1) / 2)[0].float()
    # A step goes about as far as a pixel reaches: what the finder sees as one is compared as one.
    pixel = min(CELL, codec.config.frame[0] // codec.config.finder_frame[0])

    def missed(tried: Tensor, cells: Tensor) -> Tensor:
        """Features (K, F) -> in what their pictures differ (K, numbers)."""
        tried = with_sight(tried, camera)
        some, state = cells.expand(len(tried), -1), codec.state(tried)
        drawn = codec.field.over(codec.field.behind(tried, state, some), state, some)
        away = rearrange(
            drawn.float() - shown[cells], "k cell (h p w q rgb) -> k (cell h w rgb) p q",
            h=CELL // pixel, w=CELL // pixel, p=pixel, q=pixel, rgb=3,
        )  # fmt: skip
        return away.mean((2, 3))

    def from_camera(moves: Tensor) -> Tensor:
        return missed(move(found.expand(len(moves), -1), moves * spread, camera), order[: fit.cells])

    best = from_camera(guesses).square().sum(-1).topk(fit.kept, largest=False).indices
    moves = descend(from_camera, guesses[best], fit.steps, fit)
    winner = from_camera(moves).square().sum(-1).argmin()
    placed = move(found, moves[winner] * spread, camera)
    # Some of the weapon and HUD must be among the cells: a round more or less is a pixel of them. A larger picture has
    # too many to take them by chance: those with edges tell most.
    covered = codec.field.covers(codec.state(with_sight(placed, camera)))[0][order]
    held = order[covered]
    if pixel > 1:
        held = held[(shown.amax(-1) - shown.amin(-1))[held].argsort(descending=True, stable=True)]
    looked = torch.cat([held[: fit.feature_cells // 2], order[~covered]])[: fit.feature_cells]

    free = torch.ones(found.shape[1], device=device)
    free[[*camera.place, camera.height, *camera.heading, camera.pitch]] = 0
    if camera.sight is not None:
        free[camera.sight : camera.sight + SIGHT] = 0
    unit = codec.state(found + 1) - codec.state(found)

    def refined(moves: Tensor) -> Tensor:
        moved = move(placed.expand(len(moves), -1), moves[:, :MOVES] * spread, camera)
        return moved + moves[:, MOVES:] * free / unit

    def from_all(moves: Tensor) -> Tensor:
        return torch.cat([missed(refined(moves), looked), fit.trust * moves[:, MOVES:] * free], -1)

    still = torch.zeros(1, MOVES + found.shape[1], device=device)
    features = refined(descend(from_all, still, fit.feature_steps, fit))
    return features, missed(features, looked).square().mean(-1)


def move(features: Tensor, by: Tensor, camera: CameraConfig) -> Tensor:
    """Features (..., F) with the camera moved by (..., MOVES)."""
    moved = features.clone()
    x, y, turn, pitch, height = by.unbind(-1)
    moved[..., camera.place[0]] += x
    moved[..., camera.place[1]] += y
    sine, cosine = (features[..., index] for index in camera.heading)
    heading = torch.atan2(sine, cosine) + turn
    moved[..., camera.heading[0]], moved[..., camera.heading[1]] = heading.sin(), heading.cos()
    moved[..., camera.pitch] += pitch
    moved[..., camera.height] = (moved[..., camera.height] + height).clamp_min(0)
    return moved


def descend(missed: Callable[[Tensor], Tensor], moves: Tensor, steps: int, fit: PoseFit) -> Tensor:
    """Moves (K, D) after `steps` of damped least squares on what they miss (K, numbers), each taken where it helps."""
    kept, size = moves.shape
    nudges = fit.nudge * torch.eye(size, device=moves.device)
    damping = torch.full((kept, 1, 1), fit.damping, device=moves.device)
    error = missed(moves)
    for _ in range(steps):
        nudged = rearrange(moves[:, None] + nudges, "k d size -> (k d) size")
        slopes = (rearrange(missed(nudged), "(k d) c -> k d c", k=kept) - error[:, None]) / fit.nudge
        square = slopes @ slopes.mT
        scale = torch.diag_embed(square.diagonal(dim1=-2, dim2=-1) + 1e-3)
        step = torch.linalg.solve(square + damping * scale, -(slopes @ error[..., None]))[..., 0]
        tried = moves + step.clamp(-1, 1)
        again = missed(tried)
        better = (again.square().sum(-1) < error.square().sum(-1))[:, None]
        moves, error = torch.where(better, tried, moves), torch.where(better, again, error)
        damping = torch.where(better[..., None], damping / 3, damping * 4)
    return moves
