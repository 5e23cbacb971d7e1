"""Menus: lists of items with a focus, moved by pad, keyboard or mouse alike, and the one way they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from scope_play.play.ui import theme as look

if TYPE_CHECKING:
    import pygame

    from scope_play.play.ui.theme import Theme


class Nav(Enum):
    """What the player wants in a menu, whichever device says so."""

    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    OK = "ok"
    BACK = "back"


class Kind(Enum):
    """ACTION does something; CHOICE turns through values with left and right; TEXT opens the text entry."""

    ACTION = "action"
    CHOICE = "choice"
    TEXT = "text"


@dataclass(frozen=True)
class Item:
    """`key` is what the app acts on; `value` is shown on the right; a disabled item is skipped and greyed."""

    key: str
    label: str
    value: str = ""
    kind: Kind = Kind.ACTION
    enabled: bool = True


@dataclass(frozen=True)
class Menu:
    """An immutable list with a focus; `focus` is always an enabled item if there is one."""

    items: tuple[Item, ...]
    focus: int = 0

    @property
    def item(self) -> Item:
        return self.items[self.focus]


@dataclass(frozen=True)
class Chosen:
    """The player acted on `key`: `step` is -1 or +1 for a turned choice, 0 when it was pressed."""

    key: str
    step: int = 0


def with_items(menu: Menu, items: Sequence[Item]) -> Menu:
    """New items, the focus staying on the same key if it is still there and enabled."""
    key = menu.item.key if menu.items else ""
    focus = next((i for i, item in enumerate(items) if item.key == key and item.enabled), None)
    if focus is None:
        focus = next((i for i, item in enumerate(items) if item.enabled), 0)
    return Menu(tuple(items), focus)


def navigate(menu: Menu, nav: Nav) -> tuple[Menu, Chosen | None]:
    """Move the focus (round the ends, past disabled items), turn a choice, or choose. BACK is the caller's."""
    if nav in (Nav.UP, Nav.DOWN):
        step = -1 if nav is Nav.UP else 1
        for distance in range(1, len(menu.items) + 1):
            at = (menu.focus + step * distance) % len(menu.items)
            if menu.items[at].enabled:
                return replace(menu, focus=at), None
        return menu, None
    item = menu.item
    if not item.enabled:
        return menu, None
    if nav in (Nav.LEFT, Nav.RIGHT) and item.kind is Kind.CHOICE:
        return menu, Chosen(item.key, -1 if nav is Nav.LEFT else 1)
    if nav is Nav.OK:
        return menu, Chosen(item.key)
    return menu, None


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
    for number, rect in layout(theme, menu, area):
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
    import pygame

    size = theme.px(3.5)
    points = [(x - direction * size // 2, y - size), (x - direction * size // 2, y + size), (x + direction * size, y)]
    pygame.draw.polygon(target, look.ON_ACCENT, points)
