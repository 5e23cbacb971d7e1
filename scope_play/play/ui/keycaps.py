"""Key caps with a word each: what the device in the player's hands does here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from scope_play.play.ui import theme as look

if TYPE_CHECKING:
    import pygame

    from scope_play.play.ui.theme import Theme

Hint: TypeAlias = tuple[str, str]
"""What is on the key or button, and what it does."""


@dataclass(frozen=True)
class Holding:
    """The device in use: its name, and whether it has a pad's buttons."""

    name: str = ""
    pad: bool = False

    def key(self, button: str) -> str:
        """What is written on the key that is this menu button: `ok`, `back`, `move`, `turn` or `jump`."""
        return (PAD_KEYS if self.pad else KEYBOARD_KEYS)[button]


PAD_KEYS: dict[str, str] = {"ok": "A", "back": "B", "move": "D-pad", "turn": "Left, right", "jump": "Up, down"}
KEYBOARD_KEYS: dict[str, str] = {**PAD_KEYS, "ok": "Enter", "back": "Esc", "move": "Arrows"}


def menu_hints(holding: Holding, back: str = "") -> list[Hint]:
    """For a list of items; `back` is where leaving it leads, if it can be left."""
    hints = [(holding.key("move"), "move"), (holding.key("ok"), "choose")]
    return [*hints, (holding.key("back"), back)] if back else hints


def cap_height(theme: Theme) -> int:
    return theme.line_height("small") + theme.px(3)


def line_pitch(theme: Theme) -> int:
    """From one line of caps to the next."""
    return cap_height(theme) + theme.px(4)


def lines(theme: Theme, hints: Sequence[Hint], width: int, most: int) -> list[list[Hint]]:
    """The hints broken into at most `most` lines of `width` pixels; what does not fit is left out."""
    broken: list[list[Hint]] = [[]]
    used = 0
    for hint in hints:
        wide = _width(theme, hint)
        if broken[-1] and used + wide > width:
            if len(broken) == most:
                break
            broken.append([])
            used = 0
        if wide <= width:
            broken[-1].append(hint)
            used += wide + _gap(theme)
    return [line for line in broken if line]


def draw(target: pygame.Surface, theme: Theme, area: pygame.Rect, hints: Sequence[Hint], most: int = 1) -> None:
    """From the upper left corner of `area` on, in at most `most` lines."""
    for number, line in enumerate(lines(theme, hints, area.width, most)):
        x = area.x
        for hint in line:
            draw_one(target, theme, (x, area.y + number * line_pitch(theme)), hint)
            x += _width(theme, hint) + _gap(theme)


def draw_one(target: pygame.Surface, theme: Theme, at: tuple[int, int], hint: Hint) -> None:
    cap, word = hint
    box = draw_cap(target, theme, at, cap)
    y = box.centery - theme.line_height("small") // 2
    theme.text(target, word, (box.right + theme.px(4), y), "small", look.MUTED)


def draw_cap(target: pygame.Surface, theme: Theme, at: tuple[int, int], cap: str) -> pygame.Rect:
    """One key cap, `at` being its upper left corner; returns where it is."""
    import pygame

    box = pygame.Rect(*at, cap_width(theme, cap), cap_height(theme))
    theme.box(target, box, look.LINE, radius=3)
    theme.box(target, box.inflate(-theme.px(1), -theme.px(1)), look.RAISED, radius=3)
    y = box.centery - theme.line_height("small") // 2
    theme.text(target, cap, (box.centerx, y), "small", look.TEXT, "middle")
    return box


def cap_width(theme: Theme, cap: str) -> int:
    return max(theme.measure(cap, "small")[0] + theme.px(8), cap_height(theme))


def _width(theme: Theme, hint: Hint) -> int:
    return cap_width(theme, hint[0]) + theme.px(4) + theme.measure(hint[1], "small")[0]


def _gap(theme: Theme) -> int:
    return theme.px(10)
