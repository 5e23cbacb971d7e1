"""Menus: lists of items with a focus, moved by pad, keyboard or mouse alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum


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
