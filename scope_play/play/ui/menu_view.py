"""The one way a menu is drawn, and what of it the mouse points at."""

from __future__ import annotations

import pygame

from scope_play.play.menus.menu import Kind, Menu
from scope_play.play.ui import theme as look
from scope_play.play.ui.theme import Theme


def row_height(theme: Theme) -> int:
    return theme.line_height("body") + theme.px(7)


def height(theme: Theme, count: int) -> int:
    return count * row_height(theme)


def layout(theme: Theme, menu: Menu, area: pygame.Rect) -> list[tuple[int, pygame.Rect]]:
    """(item number, rectangle) of the items that fit into `area`, scrolled so that the focus is among them."""
    tall = row_height(theme)
    room = max(1, area.height // tall)
    first = min(max(0, menu.focus - room // 2), max(0, len(menu.items) - room))
    rects = []
    for place, number in enumerate(range(first, min(first + room, len(menu.items)))):
        rect = area.copy()
        rect.update(area.x, area.y + place * tall, area.width, tall - theme.px(2))
        rects.append((number, rect))
    return rects


def item_at(theme: Theme, menu: Menu, area: pygame.Rect, position: tuple[int, int]) -> int | None:
    """The enabled item under a mouse position."""
    for number, rect in layout(theme, menu, area):
        if rect.collidepoint(position) and menu.items[number].enabled:
            return number
    return None


def draw(target: pygame.Surface, theme: Theme, menu: Menu, area: pygame.Rect) -> None:
    pad = theme.px(8)
    shown = layout(theme, menu, area)
    for number, rect in (shown[0], shown[-1]) if shown else ():
        if number not in (0, len(menu.items) - 1):
            _goes_on(target, theme, rect, -1 if number == shown[0][0] else 1)
    for number, rect in shown:
        item, focus = menu.items[number], number == menu.focus
        if focus:
            theme.box(target, rect, look.ACCENT)
        colour = look.ON_ACCENT if focus else look.TEXT if item.enabled else look.DISABLED
        y = rect.y + (rect.height - theme.line_height("body")) // 2
        label = theme.text(target, item.label, (rect.x + pad, y), "body", colour)
        if not item.value:
            continue
        turning = focus and item.kind is Kind.CHOICE
        room = rect.right - pad - label.right - pad - (theme.px(24) if turning else 0)
        value = theme.fit(item.value, "body", room, keep_end=item.kind is Kind.TEXT)
        right = rect.right - pad - (theme.px(12) if turning else 0)
        value_colour = look.ON_ACCENT if focus else look.MUTED if item.enabled else look.DISABLED
        drawn = theme.text(target, value, (right, y), "body", value_colour, "right")
        if turning:
            _arrow(target, theme, drawn.left - theme.px(7), rect.centery, -1)
            _arrow(target, theme, rect.right - theme.px(12), rect.centery, 1)


def _arrow(target: pygame.Surface, theme: Theme, x: int, y: int, direction: int) -> None:
    size = theme.px(3.5)
    points = [(x - direction * size // 2, y - size), (x - direction * size // 2, y + size), (x + direction * size, y)]
    pygame.draw.polygon(target, look.ON_ACCENT, points)


def _goes_on(target: pygame.Surface, theme: Theme, rect: pygame.Rect, direction: int) -> None:
    """A mark above the first row shown, or below the last, that there are more."""
    size, x = theme.px(3.5), rect.centerx
    y = (rect.top if direction < 0 else rect.bottom) + direction * theme.px(5)
    points = [
        (x - 2 * size, y - direction * size // 2),
        (x + 2 * size, y - direction * size // 2),
        (x, y + direction * size),
    ]
    pygame.draw.polygon(target, look.MUTED, points)
