"""Entering a line of text: with a keyboard by typing, with a pad on a grid of keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scope_play.play.ui import keycaps
from scope_play.play.ui import theme as look
from scope_play.play.ui.keycaps import Hint, Holding
from scope_play.play.ui.menus import Nav

if TYPE_CHECKING:
    import pygame

    from scope_play.play.ui.theme import Theme

LETTERS: tuple[str, ...] = ("1234567890", "qwertyuiop", "asdfghjkl'", "zxcvbnm,.-", "/\\:_~()!?@")
SHIFT, SPACE, DELETE, DONE = "Shift", "Space", "Delete", "Done"
CONTROLS: tuple[str, ...] = (SHIFT, SPACE, DELETE, DONE)
COLUMNS = 10
LIMIT = 2000


@dataclass(frozen=True)
class TextBox:
    """A line being edited. `key` says what for; `row`, `column` is the focused key of the grid."""

    key: str
    title: str
    text: str
    row: int = 1
    column: int = 0
    shift: bool = False


def typed(box: TextBox, text: str) -> TextBox:
    """Characters from a keyboard or a paste; control characters and line breaks become spaces."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return replace(box, text=(box.text + clean)[:LIMIT])


def deleted(box: TextBox) -> TextBox:
    return replace(box, text=box.text[:-1])


def navigate(box: TextBox, nav: Nav) -> tuple[TextBox | None, bool]:
    """Move over the grid or press its key; True when the line is done.

    BACK deletes a character, and closes an empty line: then there is no box any more.
    """
    rows = len(LETTERS) + 1
    match nav:
        case Nav.UP:
            return replace(box, row=(box.row - 1) % rows), False
        case Nav.DOWN:
            return replace(box, row=(box.row + 1) % rows), False
        case Nav.LEFT | Nav.RIGHT:
            step = -1 if nav is Nav.LEFT else 1
            if box.row == len(LETTERS):
                control = (_control(box.column) + step) % len(CONTROLS)
                return replace(box, column=_column(control)), False
            return replace(box, column=(box.column + step) % COLUMNS), False
        case Nav.BACK:
            return (deleted(box) if box.text else None), False
    key = _key(box)
    if key == DONE:
        return box, True
    if key == SHIFT:
        return replace(box, shift=not box.shift), False
    if key == DELETE:
        return deleted(box), False
    return typed(box, " " if key == SPACE else key), False


def panel(theme: Theme) -> pygame.Rect:
    """The rectangle the box is drawn in, centred."""
    import pygame

    width = min(theme.px(420), theme.width - theme.px(24))
    height = theme.px(58) + theme.line_height("title") + (len(LETTERS) + 1) * _pitch(theme) + keycaps.line_pitch(theme)
    return pygame.Rect((theme.width - width) // 2, (theme.height - height) // 2, width, height)


def key_rects(theme: Theme) -> list[tuple[int, int, pygame.Rect]]:
    """(row, column, rectangle) of every key; the last row holds the four controls."""
    import pygame

    area, pad, pitch = panel(theme), theme.px(12), _pitch(theme)
    top = area.bottom - pad - keycaps.line_pitch(theme) - (len(LETTERS) + 1) * pitch
    width, gap = area.width - 2 * pad, theme.px(3)
    rects = []
    for row in range(len(LETTERS) + 1):
        count = len(CONTROLS) if row == len(LETTERS) else COLUMNS
        for place in range(count):
            left = area.x + pad + width * place // count
            right = area.x + pad + width * (place + 1) // count
            column = _column(place) if row == len(LETTERS) else place
            rects.append((row, column, pygame.Rect(left, top + row * pitch, right - left - gap, pitch - gap)))
    return rects


def draw(target: pygame.Surface, theme: Theme, box: TextBox, holding: Holding) -> None:
    import pygame

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
        focus = row == box.row and _key(here) == _key(box)
        theme.box(target, rect, look.ACCENT if focus else look.RAISED, radius=3)
        colour = look.ON_ACCENT if focus else look.ACCENT if _key(here) == SHIFT and box.shift else look.TEXT
        text_y = rect.centery - theme.line_height("body") // 2
        theme.text(target, _key(here), (rect.centerx, text_y), "body", colour, "middle")
    foot = pygame.Rect(area.x + pad, area.bottom - pad - keycaps.cap_height(theme), area.width - 2 * pad, 1)
    keycaps.draw(target, theme, foot, _hints(box, holding))


def _hints(box: TextBox, holding: Holding) -> list[Hint]:
    if holding.pad:
        return [("D-pad", "move"), ("A", "press"), ("B", "delete" if box.text else "cancel")]
    return [("Enter", "done"), ("Esc", "cancel")]


def _pitch(theme: Theme) -> int:
    return theme.px(24)


def _control(column: int) -> int:
    return column * len(CONTROLS) // COLUMNS


def _column(control: int) -> int:
    """The first of the grid's columns that lies over a control."""
    return -(-control * COLUMNS // len(CONTROLS))


def _key(box: TextBox) -> str:
    if box.row == len(LETTERS):
        return CONTROLS[_control(box.column)]
    letter = LETTERS[box.row][box.column]
    return letter.upper() if box.shift else letter
