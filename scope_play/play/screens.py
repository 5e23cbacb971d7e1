"""What each screen offers and how it looks: start, pause, settings, rewind. Pure of events; the app decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pygame

from scope_play.play import menu as menus
from scope_play.play import theme as look
from scope_play.play.legend import Entry
from scope_play.play.menu import Item, Kind, Menu
from scope_play.play.scenes import OWN, Scene
from scope_play.play.view import fit_into

if TYPE_CHECKING:
    from scope_play.play.settings import Settings
    from scope_play.play.theme import Theme
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


@dataclass(frozen=True)
class StartLook:
    """What the start screen shows beside its menu. `status` is what the engine is doing."""

    spec: WorldSpec | None
    picture: np.ndarray | None
    status: str
    alert: bool = False
    pad: str = ""


def start_items(form: Form, spec: WorldSpec | None, waiting: str) -> list[Item]:
    """`waiting` is why play cannot begin at once; it can be chosen all the same."""
    has_text = bool(spec and spec.has_text)
    scene = form.scenes[form.scene].name if form.scenes else ""
    prompt = form.prompt or ("write one" if has_text else "this model takes none")
    return [
        Item("play", "Play", waiting),
        Item("model", "Model", model_name(form.model), Kind.CHOICE if len(form.models) > 1 else Kind.ACTION),
        Item("scene", "Scene", "your own picture" if form.picture else scene, Kind.CHOICE),
        Item("picture", "Own picture", form.picture or "type a path or drop a file", Kind.TEXT),
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
        Item("gamepad", "Controller", settings.gamepad, Kind.CHOICE),
        Item("fullscreen", "Fullscreen", switch(settings.fullscreen), Kind.CHOICE),
        Item("smooth", "Smooth picture", switch(settings.smooth), Kind.CHOICE),
        Item("back", "Back"),
    ]


def model_name(model: str) -> str:
    """A folder is shown by its last part."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2]


def start_layout(theme: Theme, count: int) -> dict[str, pygame.Rect]:
    """Title and menu on the left, the scene on the right, status and hints along the lower edge."""
    margin, gap = theme.px(20), theme.px(16)
    foot = theme.line_height("small") + theme.px(6)
    left = max(theme.px(226), round(theme.width * 0.36))
    title_height = theme.line_height("display") + theme.line_height("small")
    wanted = menus.height(theme, count)
    free = theme.height - 2 * margin - foot - title_height - gap
    menu_height = min(wanted, free)
    top = margin + max(0, (free - menu_height) // 2)
    title = pygame.Rect(margin, top, left, title_height)
    menu = pygame.Rect(margin, title.bottom + gap, left, menu_height)
    right = menu.right + theme.px(24)
    details = theme.line_height("title") + 2 * theme.line_height("small") + theme.px(6)
    width = theme.width - margin - right
    picture_height = min(round(width * 9 / 16), theme.height - 2 * margin - foot - details - gap)
    picture_top = margin + max(0, (theme.height - 2 * margin - foot - picture_height - gap - details) // 2)
    picture = pygame.Rect(right, picture_top, width, picture_height)
    info = pygame.Rect(right, picture.bottom + theme.px(8), width, details)
    hints = pygame.Rect(margin, theme.height - margin - foot + theme.px(6), theme.width - 2 * margin, foot)
    return {"title": title, "menu": menu, "picture": picture, "info": info, "hints": hints}


def draw_start(target: pygame.Surface, theme: Theme, menu: Menu, shown: StartLook) -> None:
    target.fill(look.INK)
    rects = start_layout(theme, len(menu.items))
    title = rects["title"]
    theme.text(target, "scope-play", title.topleft, "display")
    under = (title.x + theme.px(1), title.y + theme.line_height("display"))
    theme.text(target, "a neural world in your hands", under, "small", look.MUTED)
    menus.draw(target, theme, menu, rects["menu"])
    frame = rects["picture"]
    theme.box(target, frame, look.PANEL)
    if shown.picture is not None:
        cover(target, shown.picture, frame)
    info = rects["info"]
    name = model_name(shown.spec.name) if shown.spec else ""
    theme.text(target, name, info.topleft, "title")
    if shown.spec and not shown.spec.trained:
        theme.text(target, "untrained", (info.right, info.y + theme.px(4)), "small", look.ACCENT, "right")
    y = info.y + theme.line_height("title") + theme.px(2)
    spec = shown.spec
    facts = ""
    if spec:
        steps = "1 step" if spec.steps == 1 else f"{spec.steps} steps"
        facts = f"{spec.width}x{spec.height}, {spec.fps} frames a second, {steps}, {spec.device}"
    for text, colour in ((facts, look.MUTED), (shown.status, look.ALERT if shown.alert else look.ACCENT)):
        if not text:
            continue
        lines = theme.wrap(text, "small", info.width, 2 if not facts or shown.alert else 1)
        for line in lines:
            theme.text(target, line, (info.x, y), "small", colour)
            y += theme.line_height("small")
    draw_hints(
        target, theme, rects["hints"], "arrows or stick: move    A or Enter: choose    B or Esc: back", shown.pad
    )


NOTE_LINES = 3


def pause_layout(theme: Theme, count: int) -> dict[str, pygame.Rect]:
    """One panel in the middle: heading, then the items."""
    pad = theme.px(14)
    width = min(theme.px(250), theme.width - 2 * pad)
    heading = theme.line_height("title") + NOTE_LINES * theme.line_height("small") + theme.px(6)
    foot = theme.line_height("small") + theme.px(16)
    menu_height = min(menus.height(theme, count), theme.height - heading - 3 * pad - foot)
    height = heading + menu_height + 2 * pad
    panel = pygame.Rect((theme.width - width) // 2, max(pad, (theme.height - foot - height) // 2), width, height)
    menu = pygame.Rect(panel.x + pad, panel.y + pad + heading, width - 2 * pad, menu_height)
    hints = pygame.Rect(theme.px(20), theme.height - foot + theme.px(4), theme.width - theme.px(40), foot - theme.px(4))
    return {"panel": panel, "menu": menu, "hints": hints}


def draw_panel(
    target: pygame.Surface, theme: Theme, heading: str, note: str, menu: Menu, pad: str = "", alert: bool = False
) -> None:
    """A menu over the dimmed frame (pause, settings)."""
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
    draw_hints(target, theme, rects["hints"], "A or Enter: choose    B or Esc: back", pad)


APP_KEYS: tuple[tuple[str, str], ...] = (
    ("Speed and delay", "f1"),
    ("Controller overlay", "f2"),
    ("Record", "f9"),
    ("Fullscreen", "f11"),
    ("Screenshot", "f12"),
)


def controls_layout(theme: Theme, lines: int) -> dict[str, pygame.Rect]:
    """One panel in the middle: heading, then a line for every control."""
    pad = theme.px(14)
    width = min(theme.px(520), theme.width - 2 * pad)
    heading = theme.line_height("title") + theme.px(6)
    pitch = theme.line_height("small") + theme.px(2)
    height = min(heading + lines * pitch + 2 * pad, theme.height - theme.px(16))
    panel = pygame.Rect((theme.width - width) // 2, (theme.height - height) // 2, width, height)
    table = pygame.Rect(panel.x + pad, panel.y + pad + heading, width - 2 * pad, height - heading - 2 * pad)
    return {"panel": panel, "table": table}


def draw_controls(target: pygame.Surface, theme: Theme, legend: Sequence[Entry]) -> None:
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


def draw_hints(target: pygame.Surface, theme: Theme, area: pygame.Rect, hints: str, pad: str) -> None:
    right = theme.text(target, theme.fit(pad, "small", area.width // 3), area.topright, "small", look.MUTED, "right")
    room = area.width - right.width - theme.px(12)
    theme.text(target, theme.fit(hints, "small", room), area.topleft, "small", look.MUTED)


def dim(target: pygame.Surface) -> None:
    target.blit(shade(target.get_size()), (0, 0))


def cover(target: pygame.Surface, picture: np.ndarray, area: pygame.Rect) -> None:
    """Fill `area` with the middle of `picture`, uint8 (H, W, 3)."""
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
