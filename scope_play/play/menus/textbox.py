"""Entering a line of text: with a keyboard by typing, with a pad on a grid of keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scope_play.play.menus.menu import Nav

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
                return replace(box, column=column_of(control)), False
            return replace(box, column=(box.column + step) % COLUMNS), False
        case Nav.BACK:
            return (deleted(box) if box.text else None), False
    key = key_at(box)
    if key == DONE:
        return box, True
    if key == SHIFT:
        return replace(box, shift=not box.shift), False
    if key == DELETE:
        return deleted(box), False
    return typed(box, " " if key == SPACE else key), False


def column_of(control: int) -> int:
    """The first of the grid's columns that lies over one of `CONTROLS`."""
    return -(-control * COLUMNS // len(CONTROLS))


def key_at(box: TextBox) -> str:
    """What the focused key writes or does."""
    if box.row == len(LETTERS):
        return CONTROLS[_control(box.column)]
    letter = LETTERS[box.row][box.column]
    return letter.upper() if box.shift else letter


def _control(column: int) -> int:
    return column * len(CONTROLS) // COLUMNS
