"""Keys and values that are remembered in 8 bits: e4m3 numbers, and a float32 scale for each head of each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max


class Rounded(NamedTuple):
    """data (..., D) e4m3, scale (..., 1) float32: together `data * scale`."""

    data: Tensor
    scale: Tensor


class Remembered(NamedTuple):
    """Keys and values of a cache's slots, (B, slots, tokens, heads, D) each."""

    keys: Rounded
    values: Rounded


def round_rows(x: Tensor) -> Rounded:
    """x (..., D) to the nearest numbers of e4m3 under the smallest scale that holds the row."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / FP8_MAX).clamp_min(torch.finfo(torch.float32).tiny)
    return Rounded((wide / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale)


def widen(rounded: Rounded, dtype: torch.dtype) -> Tensor:
    """The numbers again, (..., D)."""
    return (rounded.data.float() * rounded.scale).to(dtype)
