"""Figures from arrays: nothing here knows a world."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def f1_score(predicted: np.ndarray, true: np.ndarray) -> float | None:
    """F1 of bool arrays of one shape; None where nothing is true and nothing predicted."""
    total = int(predicted.sum()) + int(true.sum())
    return float(2 * (predicted & true).sum() / total) if total else None


def r2_score(predicted: np.ndarray, true: np.ndarray, counted: np.ndarray) -> float | None:
    """Share of variance explained over the `counted` entries; None where the truth does not vary."""
    y, p = true[counted], predicted[counted]
    spread = float(((y - y.mean()) ** 2).sum()) if y.size else 0.0
    return 1.0 - float(((y - p) ** 2).sum()) / spread if spread > 1e-9 else None


def gain(predicted: np.ndarray, true: np.ndarray, counted: np.ndarray) -> float | None:
    """Slope of the least-squares line from true to predicted over the `counted` entries; None where the truth does not
    vary."""
    if not counted.any():
        return None
    y, p = true[counted], predicted[counted]
    y, p = y - y.mean(), p - p.mean()
    spread = float((y * y).sum())
    return float((y * p).sum()) / spread if spread > 1e-9 else None


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of uint8 pictures (..., H, W, 3) in dB, (...); at most 60, where they are equal."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean((-3, -2, -1))
    return np.minimum(10.0 * np.log10(255.0**2 / np.maximum(error, 1e-3)), 60.0)


def feature_distance(a: list[Tensor], b: list[Tensor]) -> np.ndarray:
    """Distance of pictures by unit-length features at each place, averaged over places, summed over stages: (N,)."""
    stages = []
    for x, y in zip(a, b, strict=True):
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)
        y = y / y.norm(dim=1, keepdim=True).clamp(min=1e-6)
        stages.append((x - y).square().sum(1).mean((1, 2)).numpy())
    return np.sum(stages, axis=0)


def unwrapped_turn(pose: np.ndarray) -> np.ndarray:
    """Heading since the first frame, radians, (..., T), from pose (..., T, 6) that begins with its cosine and sine."""
    yaw = np.unwrap(np.arctan2(pose[..., 1], pose[..., 0]), axis=-1)
    return yaw - yaw[..., :1]
