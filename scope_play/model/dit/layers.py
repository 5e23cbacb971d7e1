"""The parts every block is made of: RMSNorm, rotary positions, projections of attention (SPEC.md section 3).

Hidden states keep their axes apart, (batch, frames, tokens, dim), so that whatever belongs to a latent frame (its
timestep, its actions, its place in time) is applied once per frame and never per token.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor, nn

from scope_play.kernels.shapes import Rotation
from scope_play.kernels.torch_primitives import rms_norm


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, in float32, cast back before the weight is applied."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rope_angles(positions: Tensor, dim: int) -> Tensor:
    """(n,) positions -> (n, dim / 2) float64 angles, position * 10000^(-2j / dim)."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device) / dim
    return positions.to(torch.float64)[:, None] * 10000.0**-exponent


def rotation_from(angles: Tensor) -> Rotation:
    return Rotation(angles.cos().float(), angles.sin().float())


def pixel_rotation(positions: Tensor, head_dim: int) -> Rotation:
    """Rotation over time alone, for attention along one pixel's own history: (1, F, 1, 1, head_dim / 2)."""
    return rotation_from(rope_angles(positions, head_dim)[None, :, None, None, :])


@lru_cache(maxsize=4)
def grid_angles(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Angles of rows, then of columns, (height * width, dim), each in `dim` numbers of a head. Made once for a grid."""
    rows = rope_angles(torch.arange(height, device=device), dim)
    columns = rope_angles(torch.arange(width, device=device), dim)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)


def video_rotation(positions: Tensor, height: int, width: int, head_dim: int) -> Rotation:
    """Rotation over time, rows and columns of the token grid: (1, F, height * width, 1, head_dim / 2).

    Rows and columns get the largest even share not above a third each, time the rest: 44 + 42 + 42 of 128.
    """
    space = 2 * (head_dim // 6)
    grid = grid_angles(height, width, space, positions.device)
    time = rope_angles(positions, head_dim - 2 * space)
    frames, tokens = len(time), len(grid)
    angles = torch.cat([time[:, None].expand(-1, tokens, -1), grid[None].expand(frames, -1, -1)], 2)
    return rotation_from(angles[None, :, :, None, :])


class Attention(nn.Module):
    """Biased projections, and norms of queries and keys over the full width, before heads are split."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, eps)
        self.norm_k = RMSNorm(dim, eps)


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1))


def timestep_sinusoid(timesteps: Tensor, dim: int) -> Tensor:
    """(...,) timesteps -> (..., dim): all cosines, then all sines, computed in float64, in the timesteps' dtype."""
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=timesteps.device) / half)
    angles = timesteps.to(torch.float64)[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).to(timesteps.dtype)


def frames_to_tokens(visible: Tensor, queries: int, keys: int) -> Tensor:
    """(Fq, Fk) frame mask -> (Fq * queries, Fk * keys) token mask."""
    return rearrange(
        visible[:, None, :, None].expand(-1, queries, -1, keys), "fq queries fk keys -> (fq queries) (fk keys)"
    )
