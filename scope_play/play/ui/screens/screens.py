"""What each screen offers and how it looks: start, pause, settings, rewind. Pure of events; the app decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pygame

from scope_play.play.input.bindings_text import Entry
from scope_play.play.ui import keycaps, menus
from scope_play.play.ui import theme as look
from scope_play.play.ui.frame_view import fit_into
from scope_play.play.ui.keycaps import Hint, Holding
from scope_play.play.ui.menus import Item, Kind, Menu
from scope_play.play.ui.scenes import OWN, Scene

if TYPE_CHECKING:
    from scope_play.play.settings import Settings
    from scope_play.play.ui.theme import Theme
    from scope_play.world import WorldSpec


@dataclass(frozen=True)
class Form:
    """What the start screen has collected. `picture` is the player's own image, used instead of the scene."""

    models: tuple[str, ...] = ("nano",)
    model: str = "nano"
    scenes: tuple[Scene, ...] = (OWN,)
    scene: int = 0
    picture: str = ""
    prompt: str = ""
    seed: int = 0
    record: bool = False


def start_items(form: Form, spec: WorldSpec | None, waiting: str) -> list[Item]:
    """`waiting` is why play cannot begin at once; it can be chosen all the same."""
    has_text = bool(spec and spec.has_text)
    scene = form.scenes[form.scene].name if form.scenes else ""
    prompt = form.prompt or ("write one" if has_text else "this model takes none")
    return [
        Item("play", "Play", waiting),
        Item("model", "Model", model_name(form.model), Kind.CHOICE if len(form.models) > 1 else Kind.ACTION),
        Item("scene", "Scene", "your own picture" if form.picture else scene, Kind.CHOICE),
        Item("picture", "Own picture", form.picture or "type or drop a file", Kind.TEXT),
        Item("prompt", "Prompt", prompt, Kind.TEXT, enabled=has_text),
        Item("seed", "Seed", str(form.seed), Kind.CHOICE),
        Item("record", "Record", "on" if form.record else "off", Kind.CHOICE),
        Item("controls", "Controls"),
        Item("settings", "Settings"),
        Item("quit", "Quit"),
    ]


def pause_items(spec: WorldSpec | None, recording: bool) -> list[Item]:
    return [
        Item("resume", "Resume"),
        Item("rewind", "Rewind"),
        Item("restart", "Restart"),
        *([Item("prompt", "Prompt", kind=Kind.TEXT)] if spec and spec.has_text else []),
        Item("record", "Stop recording" if recording else "Start recording"),
        Item("screenshot", "Screenshot"),
        Item("controls", "Controls"),
        Item("settings", "Settings"),
        Item("leave", "Back to the start screen"),
        Item("quit", "Quit"),
    ]


def settings_items(settings: Settings) -> list[Item]:
    def switch(value: bool) -> str:
        return "on" if value else "off"

    return [
        Item("show_stats", "Speed and delay", switch(settings.show_stats), Kind.CHOICE),
        Item("show_pad", "Controller overlay", switch(settings.show_pad), Kind.CHOICE),
        Item("mode", "Input", settings.mode, Kind.CHOICE),
        Item("gamepad", "Pads read by", settings.gamepad, Kind.CHOICE),
        Item("fullscreen", "Fullscreen", switch(settings.fullscreen), Kind.CHOICE),
        Item("smooth", "Smooth picture", switch(settings.smooth), Kind.CHOICE),
        Item("back", "Back"),
    ]


SETTING_NOTES: dict[str, str] = {
    "show_stats": "Frames a second, and where the time between hand and eye goes. F1 in the game.",
    "show_pad": "What you hold, as the model is given it. F2 in the game.",
    "exact": "Every frame follows what you did in its own twentieth of a second.",
    "responsive": "All frames of a chunk follow what you hold when it is begun: less delay, coarser.",
    "sdl": "Any controller, plugged in at any time.",
    "inputs": "Xbox pads, read without SDL.",
    "keyboard": "Pads are left alone.",
    "fullscreen": "F11 in the game.",
    "smooth": "Off shows the model's own pixels.",
}


def setting_note(settings: Settings, key: str) -> str:
    """What the setting in focus is for; of a choice, what its present value means."""
    value = getattr(settings, key) if key in ("mode", "gamepad") else key
    return SETTING_NOTES.get(value, "")


def model_name(model: str) -> str:
    """A folder is shown by its last part."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2]


NOTE_LINES = 3


def pause_layout(theme: Theme, count: int) -> dict[str, pygame.Rect]:
    """One panel in the middle: heading, then the items."""
    pad = theme.px(14)
    width = min(theme.px(250), theme.width - 2 * pad)
    heading = theme.line_height("title") + NOTE_LINES * theme.line_height("small") + theme.px(6)
    foot = keycaps.cap_height(theme) + theme.px(12)
    menu_height = min(menus.height(theme, count), theme.height - heading - 3 * pad - foot)
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
    menus.draw(target, theme, menu, rects["menu"])
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


def draw_foot(target: pygame.Surface, theme: Theme, area: pygame.Rect, shown: Sequence[Hint], holding: Holding) -> None:
    """Hints on the left, the device in use on the right."""
    y = area.y + (keycaps.cap_height(theme) - theme.line_height("small")) // 2
    name = theme.fit(holding.name, "small", area.width // 3)
    right = theme.text(target, name, (area.right, y), "small", look.MUTED, "right")
    room = area.copy()
    room.width = area.width - right.width - theme.px(12)
    keycaps.draw(target, theme, room, shown)


def draw_band(target: pygame.Surface, theme: Theme, area: pygame.Rect, shown: Sequence[Hint], holding: Holding) -> None:
    """The same on a band along the lower edge of the picture."""
    theme.box(target, area, look.INK, 225, radius=0.5)
    inside = area.inflate(-theme.px(40), -theme.px(12))
    draw_foot(target, theme, inside, shown, holding)


def dim(target: pygame.Surface) -> None:
    target.blit(shade(target.get_size()), (0, 0))


def cover(target: pygame.Surface, picture: np.ndarray, area: pygame.Rect) -> None:
    """Fill `area` with the middle of `picture`, uint8 (H, W, 3)."""
    if area.width < 1 or area.height < 1:
        return
    height, width = picture.shape[:2]
    if width * area.height > height * area.width:
        keep = max(1, round(height * area.width / area.height))
        picture = picture[:, (width - keep) // 2 :][:, :keep]
    else:
        keep = max(1, round(width * area.height / area.width))
        picture = picture[(height - keep) // 2 :][:keep]
    inside = area.clip(target.get_clip())
    if inside == area and target.get_rect().contains(area):
        fit_into(target, picture, area)
        return
    part = pygame.Surface(area.size, 0, target)
    fit_into(part, picture, part.get_rect())
    target.blit(part, area)


def shade(size: tuple[int, int]) -> pygame.Surface:
    shade = pygame.Surface(size, pygame.SRCALPHA)
    shade.fill((*look.INK, 150))
    return shade
