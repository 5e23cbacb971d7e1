"""How the text entry is drawn: the line, and the grid of keys for a pad."""

from __future__ import annotations

from dataclasses import replace

import pygame

from scope_play.play.menus.textbox import COLUMNS, CONTROLS, LETTERS, SHIFT, TextBox, column_of, key_at
from scope_play.play.ui import keycaps
from scope_play.play.ui import theme as look
from scope_play.play.ui.keycaps import Hint, Holding
from scope_play.play.ui.theme import Theme


def panel(theme: Theme) -> pygame.Rect:
    """The rectangle the box is drawn in, centred."""
    width = min(theme.px(420), theme.width - theme.px(24))
    height = theme.px(58) + theme.line_height("title") + (len(LETTERS) + 1) * _pitch(theme) + keycaps.line_pitch(theme)
    return pygame.Rect((theme.width - width) // 2, (theme.height - height) // 2, width, height)


def key_rects(theme: Theme) -> list[tuple[int, int, pygame.Rect]]:
    """(row, column, rectangle) of every key; the last row holds the four controls."""
    area, pad, pitch = panel(theme), theme.px(12), _pitch(theme)
    top = area.bottom - pad - keycaps.line_pitch(theme) - (len(LETTERS) + 1) * pitch
    width, gap = area.width - 2 * pad, theme.px(3)
    rects = []
    for row in range(len(LETTERS) + 1):
        count = len(CONTROLS) if row == len(LETTERS) else COLUMNS
        for place in range(count):
            left = area.x + pad + width * place // count
            right = area.x + pad + width * (place + 1) // count
            column = column_of(place) if row == len(LETTERS) else place
            rects.append((row, column, pygame.Rect(left, top + row * pitch, right - left - gap, pitch - gap)))
    return rects


def draw(target: pygame.Surface, theme: Theme, box: TextBox, holding: Holding) -> None:
    area, pad = panel(theme), theme.px(12)
    theme.box(target, area, look.PANEL, radius=6)
    theme.text(target, box.title, (area.x + pad, area.y + theme.px(8)), "title")
    line = pygame.Rect(
        area.x + pad, area.y + theme.px(12) + theme.line_height("title"), area.width - 2 * pad, theme.px(22)
    )
    theme.box(target, line, look.INK)
    shown = theme.fit(box.text, "body", line.width - theme.px(18), keep_end=True)
    y = line.centery - theme.line_height("body") // 2
    drawn = theme.text(target, shown, (line.x + theme.px(6), y), "body")
    cursor = pygame.Rect(drawn.right + theme.px(1), line.y + theme.px(5), theme.px(1.5), line.height - theme.px(10))
    if not shown:
        cursor.left = line.x + theme.px(6)
    pygame.draw.rect(target, look.ACCENT, cursor)
    for row, column, rect in key_rects(theme):
        here = replace(box, row=row, column=column)
        focus = row == box.row and key_at(here) == key_at(box)
        theme.box(target, rect, look.ACCENT if focus else look.RAISED, radius=3)
        colour = look.ON_ACCENT if focus else look.ACCENT if key_at(here) == SHIFT and box.shift else look.TEXT
        text_y = rect.centery - theme.line_height("body") // 2
        theme.text(target, key_at(here), (rect.centerx, text_y), "body", colour, "middle")
    foot = pygame.Rect(area.x + pad, area.bottom - pad - keycaps.cap_height(theme), area.width - 2 * pad, 1)
    keycaps.draw(target, theme, foot, _hints(box, holding))


def _hints(box: TextBox, holding: Holding) -> list[Hint]:
    if holding.pad:
        return [("D-pad", "move"), ("A", "press"), ("B", "delete" if box.text else "cancel")]
    return [("Enter", "done"), ("Esc", "cancel")]


def _pitch(theme: Theme) -> int:
    return theme.px(24)
