"""One palette, one type scale, and the few shapes everything on screen is made of.

Lengths are in units that grow with the window: a 640x360 window has unit 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import pygame

Colour: TypeAlias = tuple[int, int, int]

INK: Colour = (13, 15, 20)
PANEL: Colour = (22, 26, 34)
RAISED: Colour = (35, 41, 53)
LINE: Colour = (58, 67, 84)
DISABLED: Colour = (96, 107, 126)
TEXT: Colour = (233, 237, 242)
MUTED: Colour = (148, 160, 178)
ACCENT: Colour = (255, 180, 84)
ON_ACCENT: Colour = (32, 22, 8)
GOOD: Colour = (120, 210, 150)
ALERT: Colour = (255, 98, 88)

SCALE: dict[str, float] = {"small": 9.5, "body": 12.0, "title": 17.0, "display": 30.0}
"""Type sizes in units."""

SUPERSAMPLING = 4
"""Text is drawn this much larger and averaged down: the bundled font's hinting spoils its spacing at small sizes."""


@dataclass(frozen=True)
class Theme:
    """Everything that depends on the window's size, `(width, height)` in pixels."""

    width: int
    height: int

    @property
    def unit(self) -> float:
        """Pixels per unit. Larger windows get more room around the text, not only larger text."""
        return max(min(self.width / 640, self.height / 360), 0.75) ** 0.85

    def px(self, units: float) -> int:
        return max(1, round(units * self.unit))

    def line_height(self, style: str) -> int:
        return round(SCALE[style] * self.unit * 1.35)

    def measure(self, text: str, style: str) -> tuple[int, int]:
        """Width and height of a line of text in pixels."""
        return -(-_font(self._size(style)).size(text)[0] // SUPERSAMPLING), self.line_height(style)

    def fit(self, text: str, style: str, width: int, keep_end: bool = False) -> str:
        """`text` cut with an ellipsis so that it is at most `width` pixels wide."""
        if self.measure(text, style)[0] <= width:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.measure(_cut(text, middle, keep_end), style)[0] <= width:
                low = middle
            else:
                high = middle - 1
        shortest = _cut(text, low, keep_end)
        return shortest if self.measure(shortest, style)[0] <= width else ""

    def wrap(self, text: str, style: str, width: int, lines: int) -> list[str]:
        """`text` broken at spaces into at most `lines` lines, the last one cut with an ellipsis."""
        words, out = text.split(), [""]
        for number, word in enumerate(words):
            longer = f"{out[-1]} {word}".strip()
            if self.measure(longer, style)[0] <= width or not out[-1]:
                out[-1] = longer
            elif len(out) < lines:
                out.append(word)
            else:
                out[-1] = " ".join([out[-1], *words[number:]])
                break
        return [self.fit(line, style, width) for line in out]

    def text(
        self,
        target: pygame.Surface,
        text: str,
        at: tuple[int, int],
        style: str = "body",
        colour: Colour = TEXT,
        align: str = "left",
    ) -> pygame.Rect:
        """One line; `at` is its top left, top middle or top right corner according to `align`."""
        if not text:
            return pygame.Rect(at, (0, 0))
        picture = _rendered(text, self._size(style), colour)
        height = self.line_height(style)
        x = at[0] - {"left": 0, "middle": picture.get_width() // 2, "right": picture.get_width()}[align]
        # The font's box has room below the line for descenders: a little lower looks centred.
        y = at[1] + (height - picture.get_height()) // 2 + round(SCALE[style] * self.unit * 0.07)
        target.blit(picture, (x, y))
        return pygame.Rect(x, at[1], picture.get_width(), height)

    def box(
        self, target: pygame.Surface, rect: pygame.Rect, colour: Colour, alpha: int = 255, radius: float = 4.0
    ) -> None:
        """A filled rectangle with round corners, see-through if `alpha` is below 255."""
        if rect.width < 1 or rect.height < 1:
            return
        corner = self.px(radius)
        if alpha == 255:
            pygame.draw.rect(target, colour, rect, border_radius=corner)
        else:
            target.blit(_glass(rect.size, colour, alpha, corner), rect)

    def _size(self, style: str) -> int:
        return max(8, round(SCALE[style] * self.unit))


def letterbox(source: tuple[int, int], window: tuple[int, int]) -> pygame.Rect:
    """The largest rectangle of `source`'s proportions in the middle of `window`; both are (width, height)."""
    scale = min(window[0] / source[0], window[1] / source[1])
    width, height = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
    return pygame.Rect((window[0] - width) // 2, (window[1] - height) // 2, width, height)


def _cut(text: str, keep: int, keep_end: bool) -> str:
    if keep_end:
        return "\N{HORIZONTAL ELLIPSIS}" + text[len(text) - keep :]
    return text[:keep].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


@lru_cache(maxsize=32)
def _font(size: int) -> pygame.font.Font:
    # The bundled font's nominal size includes its line gap.
    return pygame.font.Font(None, round(size * 1.42 * SUPERSAMPLING))


@lru_cache(maxsize=512)
def _rendered(text: str, size: int, colour: Colour) -> pygame.Surface:
    large = _font(size).render(text, True, colour)
    width, height = large.get_size()
    return pygame.transform.smoothscale(large, (-(-width // SUPERSAMPLING), -(-height // SUPERSAMPLING)))


@lru_cache(maxsize=64)
def _glass(size: tuple[int, int], colour: Colour, alpha: int, corner: int) -> pygame.Surface:
    surface = pygame.Surface(size, pygame.SRCALPHA)
    pygame.draw.rect(surface, (*colour, alpha), surface.get_rect(), border_radius=corner)
    return surface
