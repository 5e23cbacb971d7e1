"""Contact sheets: the picture of a training that a person looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_uint8(video: Tensor) -> np.ndarray:
    """(3, T, H, W) in [-1, 1] -> uint8 (T, H, W, 3)."""
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).cpu().numpy()


def contact_sheet(rows: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Rows of frames, each uint8 (T, H, W, 3), as one picture (H', W', 3); short rows are padded with black."""
    columns = max(len(row) for row in rows)
    height, width = rows[0].shape[1:3]
    sheet = np.zeros((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    for r, row in enumerate(rows):
        for c, frame in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            sheet[top : top + height, left : left + width] = frame
    return sheet
