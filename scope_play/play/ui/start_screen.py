"""The start screen: what to play on the left, what it looks like and how it is controlled on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pygame

from scope_play.loading.request import display_name
from scope_play.play.menus.menu import Menu
from scope_play.play.ui import backdrop, keycaps, menu_view
from scope_play.play.ui import theme as look
from scope_play.play.ui.keycaps import Hint, Holding

if TYPE_CHECKING:
    from scope_play.play.ui.theme import Theme
    from scope_play.session.interfaces import WorldSpec

CAP_LINES = 3
"""Lines of controls below the picture."""

SWEEP_SECONDS = 2.0
"""How long the bar takes there and back while something is loading."""


@dataclass(frozen=True)
class StartLook:
    """What the start screen shows beside its menu.

    `status` is what the engine is doing, `working` how long it has been loading so far in seconds (None: it is not),
    `message` something else to tell, `caps` what the controls do.
    """

    spec: WorldSpec | None
    picture: np.ndarray | None
    status: str
    holding: Holding
    caps: Sequence[Hint] = ()
    working: float | None = None
    message: str = ""
    alert: bool = False


def layout(theme: Theme, count: int) -> dict[str, pygame.Rect]:
    """Title and menu on the left, the scene on the right, status and hints along the lower edge."""
    margin, gap = theme.px(20), theme.px(16)
    foot = keycaps.line_pitch(theme)
    left = max(theme.px(226), round(theme.width * 0.36))
    title_height = theme.line_height("display") + theme.line_height("small")
    wanted = menu_view.height(theme, count)
    free = theme.height - 2 * margin - foot - title_height - gap
    menu_height = min(wanted, free)
    top = margin + max(0, (free - menu_height) // 2)
    title = pygame.Rect(margin, top, left, title_height)
    menu = pygame.Rect(margin, title.bottom + gap, left, menu_height)
    right = menu.right + theme.px(24)
    details = theme.line_height("title") + 2 * theme.line_height("small") + theme.px(10)
    details += CAP_LINES * keycaps.line_pitch(theme)
    width = theme.width - margin - right
    picture_height = min(round(width * 9 / 16), theme.height - 2 * margin - foot - details - gap)
    picture_top = margin + max(0, (theme.height - 2 * margin - foot - picture_height - gap - details) // 2)
    picture = pygame.Rect(right, picture_top, width, picture_height)
    info = pygame.Rect(right, picture.bottom + theme.px(8), width, details)
    foot_rect = pygame.Rect(margin, theme.height - margin - foot + theme.px(8), theme.width - 2 * margin, foot)
    return {"title": title, "menu": menu, "picture": picture, "info": info, "hints": foot_rect}


def draw(target: pygame.Surface, theme: Theme, menu: Menu, shown: StartLook) -> None:
    target.fill(look.INK)
    rects = layout(theme, len(menu.items))
    title = rects["title"]
    theme.text(target, "scope-play", title.topleft, "display")
    under = (title.x + theme.px(1), title.y + theme.line_height("display"))
    theme.text(target, "a neural world in your hands", under, "small", look.MUTED)
    menu_view.draw(target, theme, _inviting(menu, shown.holding), rects["menu"])
    frame = rects["picture"]
    theme.box(target, frame, look.PANEL)
    if shown.picture is not None:
        backdrop.cover(target, shown.picture, frame)
    elif shown.working is None:
        theme.text(target, shown.status, _line_in(frame, theme), "body", look.MUTED, "middle")
    if shown.working is not None:
        _working(target, theme, frame, shown)
    _info(target, theme, rects["info"], shown)
    backdrop.draw_foot(target, theme, rects["hints"], keycaps.menu_hints(shown.holding), shown.holding)


def _inviting(menu: Menu, holding: Holding) -> Menu:
    """With the button that begins the game, once nothing stands in its way."""
    return replace(
        menu,
        items=tuple(
            replace(item, value=f"press {holding.key('ok')}") if item.key == "play" and not item.value else item
            for item in menu.items
        ),
    )


def _info(target: pygame.Surface, theme: Theme, info: pygame.Rect, shown: StartLook) -> None:
    """The model's name and size, what there is to tell, and the controls."""
    spec, y = shown.spec, info.y
    if spec:
        name = theme.text(target, display_name(spec.name), info.topleft, "title")
        steps = "1 step" if spec.stream.steps == 1 else f"{spec.stream.steps} steps"
        facts = f"{spec.width}x{spec.height}, {spec.fps} frames a second, {steps}, {spec.device}"
        if not spec.trained:
            facts = f"untrained, {facts}"
        room = info.right - name.right - theme.px(10)
        at = (name.right + theme.px(10), info.y + theme.line_height("title") - theme.line_height("small") - theme.px(1))
        theme.text(target, theme.fit(facts, "small", room), at, "small", look.MUTED)
    y += theme.line_height("title") + theme.px(2)
    text = shown.message or ("" if shown.working is not None or shown.picture is None else shown.status)
    colour = look.ALERT if shown.alert else look.ACCENT
    for line in theme.wrap(text, "small", info.width, 2):
        theme.text(target, line, (info.x, y), "small", colour)
        y += theme.line_height("small")
    height = CAP_LINES * keycaps.line_pitch(theme)
    area = pygame.Rect(info.x, info.bottom - height, info.width, height)
    keycaps.draw(target, theme, area, shown.caps, CAP_LINES)


def _working(target: pygame.Surface, theme: Theme, frame: pygame.Rect, shown: StartLook) -> None:
    """What the engine is busy with, over the picture, with a bar that moves for as long as it is."""
    line = theme.line_height("body")
    track = pygame.Rect(0, 0, min(theme.px(180), frame.width - theme.px(20)), theme.px(3))
    track.midtop = (frame.centerx, frame.centery + line // 2 + theme.px(4))
    if shown.picture is not None:
        back = track.inflate(theme.px(28), line + theme.px(24))
        back.centery = frame.centery
        theme.box(target, back.clip(frame), look.PANEL, 225)
    text = theme.fit(f"{shown.status}, {shown.working or 0.0:.1f} s", "body", frame.width - theme.px(16))
    theme.text(target, text, (frame.centerx, frame.centery - line // 2 - theme.px(3)), "body", look.TEXT, "middle")
    pygame.draw.rect(target, look.LINE, track, border_radius=track.height)
    sweep = 0.5 - 0.5 * math.cos(2 * math.pi * (shown.working or 0.0) / SWEEP_SECONDS)
    part = pygame.Rect(0, track.y, track.width // 4, track.height)
    part.x = track.x + round(sweep * (track.width - part.width))
    pygame.draw.rect(target, look.ACCENT, part, border_radius=track.height)


def _line_in(area: pygame.Rect, theme: Theme) -> tuple[int, int]:
    """Where a centred line of body text begins in the middle of `area`."""
    return area.centerx, area.centery - theme.line_height("body") // 2
