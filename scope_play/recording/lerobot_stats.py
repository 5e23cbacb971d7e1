"""Statistics in the form LeRobot datasets carry them: per feature, of one episode, and of many put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PIXELS_PER_SIDE = 150
"""Pictures are thinned to about this many pixels a side: enough for statistics."""

Stats = dict[str, np.ndarray]


def column_stats(values: np.ndarray) -> Stats:
    """Of values `(N,)` or `(N, D)`: each entry is `(D,)`, with D = 1 for the former; `count` is `(1,)`."""
    table = values.reshape(len(values), -1).astype(np.float64)
    stats = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    stats |= dict(zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True))
    return stats | {"count": np.array([len(values)])}


def picture_stats(pictures: np.ndarray) -> Stats:
    """Of sampled uint8 pictures `(N, H, W, 3)`: each entry is `(3, 1, 1)` in [0, 1]; `count` is their number."""
    step = [max(1, side // PIXELS_PER_SIDE) for side in pictures.shape[1:3]]
    pixels = pictures[:, :: step[0], :: step[1]].reshape(-1, 3) / 255.0
    stats = {name: value.reshape(3, 1, 1) for name, value in column_stats(pixels).items() if name != "count"}
    return stats | {"count": np.array([len(pictures)])}


def merged(parts: Sequence[Stats]) -> Stats:
    """Of all parts together: exact but for the quantiles, which are averaged by count as LeRobot does."""
    counts = np.stack([part["count"] for part in parts]).astype(np.float64)
    total = counts.sum(0)
    weights = counts.reshape(len(parts), *[1] * parts[0]["mean"].ndim) / total
    means = np.stack([part["mean"] for part in parts])
    mean = (weights * means).sum(0)
    variances = np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2
    stats = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((weights * variances).sum(0)),
    }
    stats |= {name: (weights * np.stack([part[name] for part in parts])).sum(0) for name in QUANTILES}
    return stats | {"count": total.astype(np.int64)}


def as_lists(stats: Stats) -> dict[str, Any]:
    """Plain nested lists, for JSON and parquet."""
    return {name: value.tolist() for name, value in stats.items()}
