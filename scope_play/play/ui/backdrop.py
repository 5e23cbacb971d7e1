"""What lies behind and below the screens: pictures that fill an area, dimming, the line of hints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pygame

from scope_play.play.ui import keycaps
from scope_play.play.ui import theme as look
from scope_play.play.ui.frame_view import fit_into
from scope_play.play.ui.keycaps import Hint, Holding
from scope_play.play.ui.theme import Theme


def draw_foot(target: pygame.Surface, theme: Theme, area: pygame.Rect, shown: Sequence[Hint], holding: Holding) -> None:
    """Hints on the left, the device in use on the right."""
    y = area.y + (keycaps.cap_height(theme) - theme.line_height("small")) // 2
    name = theme.fit(holding.name, "small", area.width // 3)
    right = theme.text(target, name, (area.right, y), "small", look.MUTED, "right")
    room = area.copy()
    room.width = area.width - right.width - theme.px(12)
    keycaps.draw(target, theme, room, shown)


def draw_band(target: pygame.Surface, theme: Theme, area: pygame.Rect, shown: Sequence[Hint], holding: Holding) -> None:
    """The same on a band along the lower edge of the picture."""
    theme.box(target, area, look.INK, 225, radius=0.5)
    inside = area.inflate(-theme.px(40), -theme.px(12))
    draw_foot(target, theme, inside, shown, holding)


def dim(target: pygame.Surface) -> None:
    target.blit(shade(target.get_size()), (0, 0))


def cover(target: pygame.Surface, picture: np.ndarray, area: pygame.Rect) -> None:
    """Fill `area` with the middle of `picture`, uint8 (H, W, 3)."""
    if area.width < 1 or area.height < 1:
        return
    height, width = picture.shape[:2]
    if width * area.height > height * area.width:
        keep = max(1, round(height * area.width / area.height))
        picture = picture[:, (width - keep) // 2 :][:, :keep]
    else:
        keep = max(1, round(width * area.height / area.width))
        picture = picture[(height - keep) // 2 :][:keep]
    inside = area.clip(target.get_clip())
    if inside == area and target.get_rect().contains(area):
        fit_into(target, picture, area)
        return
    part = pygame.Surface(area.size, 0, target)
    fit_into(part, picture, part.get_rect())
    target.blit(part, area)


def shade(size: tuple[int, int]) -> pygame.Surface:
    shade = pygame.Surface(size, pygame.SRCALPHA)
    shade.fill((*look.INK, 150))
    return shade
