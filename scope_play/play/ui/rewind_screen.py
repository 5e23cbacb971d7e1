"""The rewind screen: a strip of small pictures to choose from, under a large view of the chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pygame

from scope_play.play.ui import keycaps
from scope_play.play.ui import theme as look
from scope_play.play.ui.backdrop import cover, shade
from scope_play.play.ui.keycaps import Holding

if TYPE_CHECKING:
    from scope_play.play.filmstrip import Strip
    from scope_play.play.ui.theme import Theme

WIDEST = "120.0 s back"


def layout(theme: Theme) -> dict[str, pygame.Rect]:
    """A strip of small pictures along the lower edge, the chosen one in the middle."""
    margin = theme.px(20)
    height = theme.px(58)
    foot = keycaps.line_pitch(theme)
    bar = pygame.Rect(0, theme.height - height - foot - theme.px(36), theme.width, height + foot + theme.px(36))
    strip = pygame.Rect(margin, bar.y + theme.px(24), theme.width - 2 * margin, height)
    track = pygame.Rect(margin, bar.y + theme.px(10), theme.width - 2 * margin, theme.px(4))
    foot_rect = pygame.Rect(margin, strip.bottom + theme.px(8), theme.width - 2 * margin, foot)
    return {"bar": bar, "track": track, "strip": strip, "hints": foot_rect}


def draw(
    target: pygame.Surface,
    theme: Theme,
    strip: Strip,
    chosen: int,
    seconds_per_chunk: float,
    holding: Holding,
) -> None:
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
    foot = rects["hints"]
    y = foot.y + (keycaps.cap_height(theme) - theme.line_height("small")) // 2
    theme.text(target, text, (foot.right, y), "small", look.ACCENT, "right")
    room = foot.copy()
    room.width = foot.width - theme.measure(WIDEST, "small")[0] - theme.px(12)
    shown = [
        (holding.key("ok"), "play from here"),
        (holding.key("back"), "stay"),
        (holding.key("turn"), "one step"),
        (holding.key("jump"), "five seconds"),
    ]
    keycaps.draw(target, theme, room, shown)


def _draw_track(target: pygame.Surface, theme: Theme, track: pygame.Rect, strip: Strip, chosen: int) -> None:
    pygame.draw.rect(target, look.RAISED, track, border_radius=track.height // 2)
    share = (chosen - strip.oldest) / max(1, strip.newest - strip.oldest)
    x = track.left + round(track.width * share)
    done = pygame.Rect(track.left, track.top, x - track.left, track.height)
    pygame.draw.rect(target, look.ACCENT, done, border_radius=track.height // 2)
    pygame.draw.aacircle(target, look.ACCENT, (x, track.centery), theme.px(5))
