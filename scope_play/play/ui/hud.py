"""What is drawn over the frame and never recorded: speed and latency, the pad, the recording light, messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pygame

from scope_play.play.ui import theme as look

if TYPE_CHECKING:
    from scope_play.play.input.events import PadState
    from scope_play.play.playback import Split
    from scope_play.play.ui.theme import Theme

PARTS: tuple[tuple[str, look.Colour], ...] = (
    ("sample", (120, 170, 255)),
    ("link", (120, 210, 150)),
    ("queue", (255, 98, 88)),
    ("denoise", (255, 180, 84)),
    ("decode", (190, 140, 255)),
    ("wait", (110, 200, 190)),
    ("show", (235, 235, 235)),
)

ELSEWHERE = ("link", "queue")
"""Parts that only an engine elsewhere has."""

GLASS = 225
"""How solid the panels are, of 255: the picture shows through, and text stays readable over noise."""


@dataclass(frozen=True)
class Stats:
    """What the numbers say; taken a few times a second so that they can be read."""

    fps: float
    hint: str
    split: Split


@dataclass(frozen=True)
class Shown:
    """Everything the HUD may show; None or empty leaves a part out. `recording` is seconds on tape."""

    stats: Stats | None = None
    pad: PadState | None = None
    recording: float | None = None
    badge: str = ""
    message: str = ""
    alert: bool = False


def layout(theme: Theme, shown: Shown) -> dict[str, pygame.Rect]:
    """Where each part goes: corners for what stays, the middle of the lower edge for messages."""
    gap = theme.px(10)
    rects: dict[str, pygame.Rect] = {}
    line = theme.line_height("small")
    if shown.stats:
        rects["stats"] = pygame.Rect(
            gap, gap, theme.px(320 if _elsewhere(shown.stats) else 248), line * 3 + theme.px(22)
        )
    if shown.recording is not None:
        width = theme.px(62)
        rects["recording"] = pygame.Rect(theme.width - gap - width, gap, width, line + theme.px(8))
    if shown.badge:
        width = theme.measure(shown.badge, "small")[0] + theme.px(16)
        top = rects["recording"].bottom + theme.px(6) if "recording" in rects else gap
        rects["badge"] = pygame.Rect(theme.width - gap - width, top, width, line + theme.px(8))
    if shown.pad:
        size = (theme.px(148), theme.px(74))
        rects["pad"] = pygame.Rect(theme.width - gap - size[0], theme.height - gap - size[1], *size)
    if shown.message:
        rects["message"] = _message_rect(theme, shown, rects.get("pad"), gap)
    return rects


def draw(target: pygame.Surface, theme: Theme, shown: Shown) -> None:
    rects = layout(theme, shown)
    if shown.stats:
        _stats(target, theme, rects["stats"], shown.stats)
    if shown.recording is not None:
        _recording(target, theme, rects["recording"], shown.recording)
    if shown.badge:
        _pill(target, theme, rects["badge"], shown.badge, look.ACCENT)
    if shown.pad:
        _pad(target, theme, rects["pad"], shown.pad)
    if shown.message:
        _message(target, theme, rects["message"], shown.message, shown.alert)


def draw_banner(target: pygame.Surface, theme: Theme, message: str, alert: bool) -> None:
    """A message at the upper edge, for screens that have no place of their own for one."""
    if message:
        gap = theme.px(10)
        width, height = _message_size(theme, message, theme.width - 2 * gap)
        _message(target, theme, pygame.Rect((theme.width - width) // 2, gap, width, height), message, alert)


def _message(target: pygame.Surface, theme: Theme, rect: pygame.Rect, message: str, alert: bool) -> None:
    theme.box(target, rect, look.PANEL, GLASS)
    colour = look.ALERT if alert else look.TEXT
    inner = rect.width - theme.px(20)
    for number, text in enumerate(theme.wrap(message, "body", inner, 3)):
        y = rect.y + theme.px(6) + number * theme.line_height("body")
        theme.text(target, text, (rect.centerx, y), "body", colour, "middle")


def _message_size(theme: Theme, message: str, room: int) -> tuple[int, int]:
    lines = theme.wrap(message, "body", room - theme.px(20), 3)
    width = max(theme.measure(line, "body")[0] for line in lines) + theme.px(20)
    return width, len(lines) * theme.line_height("body") + theme.px(12)


def _message_rect(theme: Theme, shown: Shown, pad: pygame.Rect | None, gap: int) -> pygame.Rect:
    room = (pad.left if pad else theme.width) - 2 * gap
    width, height = _message_size(theme, shown.message, room)
    left = min((theme.width - width) // 2, gap + room - width)
    return pygame.Rect(max(gap, left), theme.height - gap - height, width, height)


def _stats(target: pygame.Surface, theme: Theme, rect: pygame.Rect, stats: Stats) -> None:
    theme.box(target, rect, look.PANEL, GLASS)
    pad, line = theme.px(8), theme.line_height("small")
    inner = rect.inflate(-2 * pad, 0)
    y = rect.y + theme.px(5)
    parts = [part for part in PARTS if part[0] not in ELSEWHERE or _elsewhere(stats)]
    seconds = [getattr(stats.split, name) for name, _ in parts]
    fps = f"{stats.fps:.1f}" if stats.fps else "\N{EN DASH}"
    theme.text(target, f"{fps} fps", (inner.left, y), "small")
    colour = look.GOOD if stats.hint == "real time" else look.ACCENT
    theme.text(target, stats.hint, (inner.right, y), "small", colour, "right")
    total = f"delay {1000 * sum(seconds):.0f} ms"
    theme.text(target, total, (inner.centerx, y), "small", look.TEXT, "middle")
    y += line + theme.px(2)
    _bar(target, theme, pygame.Rect(inner.left, y, inner.width, theme.px(5)), parts, seconds)
    y += theme.px(8)
    for number, ((name, colour), value) in enumerate(zip(parts, seconds, strict=True)):
        x = inner.left + inner.width * (2 * number + 1) // (2 * len(parts))
        theme.text(target, name, (x, y), "small", look.MUTED, "middle")
        theme.text(target, f"{1000 * value:.0f}", (x, y + line), "small", colour, "middle")


def _elsewhere(stats: Stats) -> bool:
    return stats.split.link > 0.0


def _bar(
    target: pygame.Surface,
    theme: Theme,
    rect: pygame.Rect,
    parts: Sequence[tuple[str, look.Colour]],
    seconds: Sequence[float],
) -> None:
    """One bar: what an input waits for, in the order in which it waits."""
    pygame.draw.rect(target, look.RAISED, rect, border_radius=rect.height // 2)
    total = max(sum(seconds), 1e-9)
    x = float(rect.left)
    for value, (_, colour) in zip(seconds, parts, strict=True):
        width = rect.width * value / total
        pygame.draw.rect(target, colour, (round(x), rect.y, max(1, round(x + width) - round(x) - 1), rect.height))
        x += width


def _recording(target: pygame.Surface, theme: Theme, rect: pygame.Rect, seconds: float) -> None:
    theme.box(target, rect, look.PANEL, GLASS)
    radius = theme.px(3.5)
    pygame.draw.aacircle(target, look.ALERT, (rect.left + theme.px(10), rect.centery), radius)
    y = rect.centery - theme.line_height("small") // 2
    minutes, rest = divmod(int(seconds), 60)
    theme.text(target, f"{minutes}:{rest:02d}", (rect.right - theme.px(8), y), "small", look.TEXT, "right")


def _pill(target: pygame.Surface, theme: Theme, rect: pygame.Rect, text: str, colour: look.Colour) -> None:
    theme.box(target, rect, look.PANEL, GLASS)
    theme.text(target, text, (rect.centerx, rect.centery - theme.line_height("small") // 2), "small", colour, "middle")


def _pad(target: pygame.Surface, theme: Theme, rect: pygame.Rect, pad: PadState) -> None:
    """Two sticks, the triggers above them, the face buttons between."""
    theme.box(target, rect, look.PANEL, GLASS)
    radius = theme.px(20)
    middle = rect.centery + theme.px(7)
    left, right = rect.left + theme.px(30), rect.right - theme.px(30)
    for x, stick, pressed in ((left, pad.left, False), (right, pad.right, pad.right_thumb)):
        pygame.draw.aacircle(target, look.RAISED, (x, middle), radius)
        ring = look.ACCENT if pressed else look.LINE
        pygame.draw.aacircle(target, ring, (x, middle), radius, theme.px(2 if pressed else 1))
        knob = (round(x + stick[0] * radius * 0.7), round(middle + stick[1] * radius * 0.7))
        pygame.draw.aacircle(target, look.ACCENT if stick != (0.0, 0.0) else look.MUTED, knob, theme.px(6))
    bar = (radius * 2, theme.px(5))
    values = zip((left, right), pad.triggers, (pad.left_trigger, pad.right_trigger), strict=True)
    for x, value, pressed in values:
        track = pygame.Rect(x - radius, rect.top + theme.px(7), *bar)
        pygame.draw.rect(target, look.LINE, track, border_radius=theme.px(2.5))
        filled = track.copy()
        filled.width = round(track.width * max(value, float(pressed)))
        if filled.width:
            pygame.draw.rect(target, look.ACCENT if pressed else look.MUTED, filled, border_radius=theme.px(2.5))
    centre, step = (rect.centerx, middle), theme.px(11)
    faces = (
        ("Y", (0, -step), pad.north),
        ("X", (-step, 0), pad.west),
        ("A", (0, step), pad.south),
        ("B", (step, 0), pad.b),
    )
    for letter, (dx, dy), pressed in faces:
        place = (centre[0] + dx, centre[1] + dy)
        pygame.draw.aacircle(target, look.ACCENT if pressed else look.LINE, place, theme.px(6.5))
        text_y = place[1] - theme.line_height("small") // 2
        theme.text(target, letter, (place[0], text_y), "small", look.ON_ACCENT if pressed else look.TEXT, "middle")
