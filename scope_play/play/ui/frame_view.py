"""A model's frame, often small, made large and smooth in the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pygame

from scope_play.play.ui.theme import letterbox

if TYPE_CHECKING:
    from PIL import Image

ENLARGE_FROM = 3.0
"""From this scale on, bilinear scaling shows its grid: a bicubic doubling first hides it, for about 1 ms a frame."""


def fit_frame(target: pygame.Surface, frame: np.ndarray, smooth: bool = True) -> pygame.Rect:
    """Draw uint8 (H, W, 3) letterboxed into `target`; only the picture's own rectangle is touched, and returned."""
    return fit_into(target, frame, target.get_rect(), smooth)


def fit_into(target: pygame.Surface, frame: np.ndarray, area: pygame.Rect, smooth: bool = True) -> pygame.Rect:
    """The same into a part of `target`."""
    height, width = frame.shape[:2]
    rect = letterbox((width, height), area.size).move(area.topleft).clip(target.get_rect())
    if rect.width < 1 or rect.height < 1:
        return rect
    if smooth and rect.width >= ENLARGE_FROM * width:
        frame = _doubled(frame)
    source = pygame.image.frombuffer(frame.tobytes(), (frame.shape[1], frame.shape[0]), "RGB")
    place = target.subsurface(rect)
    # smoothscale takes 32-bit surfaces only, and wants source and destination alike.
    wide = pygame.Surface(source.get_size(), 0, place)
    wide.blit(source, (0, 0))
    scale = pygame.transform.smoothscale if smooth and place.get_bitsize() in (24, 32) else pygame.transform.scale
    scale(wide, rect.size, place)
    return rect


def clear_around(target: pygame.Surface, rect: pygame.Rect) -> None:
    """Black bars beside or above a letterboxed picture."""
    whole = target.get_rect()
    for bar in (
        (0, 0, whole.width, rect.top),
        (0, rect.bottom, whole.width, whole.height - rect.bottom),
        (0, rect.top, rect.left, rect.height),
        (rect.right, rect.top, whole.width - rect.right, rect.height),
    ):
        if bar[2] > 0 and bar[3] > 0:
            target.fill((0, 0, 0), bar)


def _doubled(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture: Image.Image = Image.fromarray(frame)
    return np.asarray(picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.BICUBIC))
