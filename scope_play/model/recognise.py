"""Where a picture was taken, more exactly than one look tells: by drawing what was found and comparing.

The finder's answer and guesses around it are drawn and compared with the picture; the best few are then moved by damped
least squares (Levenberg and Marquardt) until they show the same. Only the camera moves. Derivatives are differences
of two drawings, so nothing here needs autograd, and every picture goes through the same steps whatever it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from scope_play.model.light_field import CELL, CameraConfig, to_cells

if TYPE_CHECKING:
    from scope_play.model.tiny_vae import TinyVAE

MOVES = 5
"""x, y, heading, pitch, height: what may change."""


@dataclass(frozen=True)
class Closer:
    """`guesses` around what was found, `spread` as far as the finder may be off (court halves, radians, units of pitch
    and of height), of which the `kept` best are moved `steps` times; `cells` of the picture are compared. Differences
    are taken over `nudge` of the spread."""

    guesses: int = 48
    kept: int = 3
    steps: int = 8
    cells: int = 240
    spread: tuple[float, ...] = (0.15, 0.15, 0.25, 0.2, 0.3)
    nudge: float = 0.04
    damping: float = 0.05


def recognise(codec: TinyVAE, frames: Tensor, closer: Closer | None = None) -> Tensor:
    """Frames (N, 3, H, W) in [-1, 1] -> their features (N, F), as they are."""
    closer = closer or Closer()
    found = codec.found(frames).float()
    camera = codec.config.camera
    draw = torch.Generator().manual_seed(0)  # the same picture is always seen alike
    every = codec.config.frame[0] * codec.config.frame[1] // CELL**2
    cells = torch.randperm(every, generator=draw)[: closer.cells].to(frames.device)
    shown = to_cells((frames.movedim(1, -1) + 1) / 2)[:, cells].float()
    spread = torch.tensor(closer.spread, device=frames.device)
    offsets = torch.randn(closer.guesses, MOVES, generator=draw).to(frames.device)
    offsets[0] = 0

    def missed(moves: Tensor) -> Tensor:
        """Moves (N, K, MOVES) in units of the spread -> what differs (N, K, numbers)."""
        tried = move(found[:, None].expand(-1, moves.shape[1], -1), moves * spread, camera).flatten(0, 1)
        some = cells.expand(len(tried), -1)
        state = codec.state(tried)
        drawn = codec.field.over(codec.field.behind(tried, state, some), state, some)
        return rearrange(drawn.float(), "(n k) p c -> n k (p c)", n=len(found)) - shown.flatten(1)[:, None]

    moves = offsets.expand(len(found), -1, -1)
    best = missed(moves).square().sum(-1).topk(closer.kept, largest=False).indices
    moves = moves.gather(1, best[..., None].expand(-1, -1, MOVES))
    moves = _descend(missed, moves, closer)
    winner = missed(moves).square().sum(-1).argmin(1)
    return move(found, moves[torch.arange(len(found)), winner] * spread, camera)


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


def _descend(missed: Callable[[Tensor], Tensor], moves: Tensor, closer: Closer) -> Tensor:
    """Moves (N, K, MOVES) after `steps` of damped least squares, each taken only where it helps."""
    kept = moves.shape[1]
    nudges = closer.nudge * torch.eye(MOVES, device=moves.device)
    damping = torch.full((*moves.shape[:2], 1, 1), closer.damping, device=moves.device)
    error = missed(moves)
    for _ in range(closer.steps):
        nudged = rearrange(moves[:, :, None] + nudges, "n k m d -> n (k m) d")
        slopes = rearrange(missed(nudged), "n (k m) c -> n k m c", k=kept) - error[:, :, None]
        slopes = slopes / closer.nudge
        square = slopes @ slopes.mT
        scale = torch.diag_embed(square.diagonal(dim1=-2, dim2=-1) + 1e-3)
        step = torch.linalg.solve(square + damping * scale, -(slopes @ error[..., None]))[..., 0]
        tried = moves + step.clamp(-1, 1)
        again = missed(tried)
        better = (again.square().sum(-1) < error.square().sum(-1))[..., None]
        moves, error = torch.where(better, tried, moves), torch.where(better, again, error)
        damping = torch.where(better[..., None], damping / 3, damping * 4)
    return moves
