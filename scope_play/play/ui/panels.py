"""The panels over a dimmed frame: a menu (pause, settings), and what every control does."""

from __future__ import annotations

from collections.abc import Sequence

import pygame

from scope_play.play.input.bindings_text import Entry
from scope_play.play.menus.menu import Menu
from scope_play.play.ui import keycaps, menu_view
from scope_play.play.ui import theme as look
from scope_play.play.ui.backdrop import dim, draw_band
from scope_play.play.ui.keycaps import Holding
from scope_play.play.ui.theme import Theme

NOTE_LINES = 3


def pause_layout(theme: Theme, count: int) -> dict[str, pygame.Rect]:
    """One panel in the middle: heading, then the items."""
    pad = theme.px(14)
    width = min(theme.px(250), theme.width - 2 * pad)
    heading = theme.line_height("title") + NOTE_LINES * theme.line_height("small") + theme.px(6)
    foot = keycaps.cap_height(theme) + theme.px(12)
    menu_height = min(menu_view.height(theme, count), theme.height - heading - 3 * pad - foot)
    height = heading + menu_height + 2 * pad
    panel = pygame.Rect((theme.width - width) // 2, max(pad, (theme.height - foot - height) // 2), width, height)
    menu = pygame.Rect(panel.x + pad, panel.y + pad + heading, width - 2 * pad, menu_height)
    band = pygame.Rect(0, theme.height - foot, theme.width, foot)
    return {"panel": panel, "menu": menu, "hints": band}


def draw_panel(
    target: pygame.Surface,
    theme: Theme,
    heading: str,
    note: str,
    menu: Menu,
    holding: Holding,
    alert: bool = False,
    back: str = "back",
) -> None:
    """A menu over the dimmed frame (pause, settings); `back` is what leaving it does."""
    dim(target)
    rects = pause_layout(theme, len(menu.items))
    panel, inset = rects["panel"], theme.px(14)
    theme.box(target, panel, look.PANEL, 240, radius=6)
    theme.text(target, heading, (panel.x + inset + theme.px(8), panel.y + inset), "title")
    y = panel.y + inset + theme.line_height("title")
    room = panel.width - 2 * inset - theme.px(16)
    colour = look.ALERT if alert else look.MUTED
    for line in theme.wrap(note, "small", room, NOTE_LINES):
        theme.text(target, line, (panel.x + inset + theme.px(8), y), "small", colour)
        y += theme.line_height("small")
    menu_view.draw(target, theme, menu, rects["menu"])
    draw_band(target, theme, rects["hints"], keycaps.menu_hints(holding, back), holding)


APP_KEYS: tuple[tuple[str, str], ...] = (
    ("Speed and delay", "F1"),
    ("Controller overlay", "F2"),
    ("Record", "F9"),
    ("Fullscreen", "F11"),
    ("Screenshot", "F12"),
)


def controls_layout(theme: Theme, lines: int) -> dict[str, pygame.Rect]:
    """One panel in the middle: heading, then a line for every control."""
    pad = theme.px(14)
    width = min(theme.px(520), theme.width - 2 * pad)
    heading = theme.line_height("title") + theme.px(6)
    pitch = theme.line_height("small") + theme.px(2)
    foot = keycaps.cap_height(theme) + theme.px(12)
    height = min(heading + lines * pitch + 2 * pad, theme.height - foot - theme.px(12))
    panel = pygame.Rect((theme.width - width) // 2, (theme.height - foot - height) // 2, width, height)
    table = pygame.Rect(panel.x + pad, panel.y + pad + heading, width - 2 * pad, height - heading - 2 * pad)
    return {"panel": panel, "table": table, "hints": pygame.Rect(0, theme.height - foot, theme.width, foot)}


def draw_controls(target: pygame.Surface, theme: Theme, legend: Sequence[Entry], holding: Holding) -> None:
    """What everything does, by the map in use, over whatever was drawn before."""
    dim(target)
    lines = [Entry("", "pad", "keyboard and mouse"), *legend, *(Entry(what, "", key) for what, key in APP_KEYS)]
    rects = controls_layout(theme, len(lines))
    panel, table = rects["panel"], rects["table"]
    theme.box(target, panel, look.PANEL, 245, radius=6)
    theme.text(target, "Controls", (table.x, panel.y + theme.px(12)), "title")
    pitch = table.height // len(lines)
    columns = (0, round(table.width * 0.26), round(table.width * 0.52), table.width)
    for number, line in enumerate(lines):
        y = table.y + number * pitch
        for text, left, right in zip((line.what, line.pad, line.keys), columns, columns[1:], strict=False):
            colour = look.ACCENT if number == 0 else look.TEXT if left == 0 else look.MUTED
            shown = theme.fit(text, "small", right - left - theme.px(8))
            theme.text(target, shown, (table.x + left, y), "small", colour)
    draw_band(target, theme, rects["hints"], [(holding.key("back"), "back")], holding)
