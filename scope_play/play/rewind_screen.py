"""The rewind screen: a strip of small pictures to choose from, under a large view of the chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pygame

from scope_play.play import theme as look
from scope_play.play.screens import cover, shade

if TYPE_CHECKING:
    from scope_play.play.history import Strip
    from scope_play.play.theme import Theme


def layout(theme: Theme) -> dict[str, pygame.Rect]:
    """A strip of small pictures along the lower edge, the chosen one in the middle."""
    margin = theme.px(20)
    height = theme.px(58)
    foot = theme.line_height("small") + theme.px(6)
    bar = pygame.Rect(0, theme.height - height - foot - theme.px(40), theme.width, height + foot + theme.px(40))
    strip = pygame.Rect(margin, bar.y + theme.px(24), theme.width - 2 * margin, height)
    track = pygame.Rect(margin, bar.y + theme.px(10), theme.width - 2 * margin, theme.px(4))
    hints = pygame.Rect(margin, strip.bottom + theme.px(6), theme.width - 2 * margin, foot)
    return {"bar": bar, "track": track, "strip": strip, "hints": hints}


def draw(target: pygame.Surface, theme: Theme, strip: Strip, chosen: int, seconds_per_chunk: float) -> None:
    rects = layout(theme)
    theme.box(target, rects["bar"], look.INK, 235, radius=0.5)
    _draw_track(target, theme, rects["track"], strip, chosen)
    area = rects["strip"]
    picture = strip[chosen]
    width = round(area.height * picture.shape[1] / picture.shape[0])
    gap = theme.px(4)
    around = area.width // (width + gap) // 2 + 1
    old_clip = target.get_clip()
    target.set_clip(area)
    for step in range(-around, around + 1):
        number = chosen + step
        if not strip.oldest <= number <= strip.newest:
            continue
        rect = pygame.Rect(area.centerx - width // 2 + step * (width + gap), area.y, width, area.height)
        cover(target, strip[number], rect)
        if step:
            target.blit(shade(rect.size), rect)
        else:
            pygame.draw.rect(target, look.ACCENT, rect, theme.px(2), border_radius=theme.px(1))
    target.set_clip(old_clip)
    back = (strip.newest - chosen) * seconds_per_chunk
    text = "now" if back == 0 else f"{back:.1f} s back"
    theme.text(target, text, rects["hints"].topleft, "small", look.ACCENT)
    hints = "left, right: one step    up, down: five seconds    A: play from here    B: stay"
    room = rects["hints"].width - theme.measure(text, "small")[0] - theme.px(16)
    right = (rects["hints"].right, rects["hints"].y)
    theme.text(target, theme.fit(hints, "small", room), right, "small", look.MUTED, "right")


def _draw_track(target: pygame.Surface, theme: Theme, track: pygame.Rect, strip: Strip, chosen: int) -> None:
    pygame.draw.rect(target, look.RAISED, track, border_radius=track.height // 2)
    share = (chosen - strip.oldest) / max(1, strip.newest - strip.oldest)
    x = track.left + round(track.width * share)
    done = pygame.Rect(track.left, track.top, x - track.left, track.height)
    pygame.draw.rect(target, look.ACCENT, done, border_radius=track.height // 2)
    pygame.draw.aacircle(target, look.ACCENT, (x, track.centery), theme.px(5))
