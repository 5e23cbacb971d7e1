"""The window itself: opened, resized, made fullscreen and back."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

import pygame

from scope_play.errors import ScopeError
from scope_play.play.ui.theme import Theme

INVISIBLE = ("offscreen", "dummy")
"""SDL's drivers for nobody to look at, which it falls back on when a display does not answer."""


class Window:
    """pygame's one window. `size` is what it has while it is not fullscreen.

    Raises ScopeError if there is no display to open it on. Where only fullscreen fails it is opened without.
    """

    def __init__(self, size: tuple[int, int], fullscreen: bool = False) -> None:
        asked_for = os.environ.get("SDL_VIDEODRIVER") or os.environ.get("SDL_VIDEO_DRIVER") or ""
        if sys.platform.startswith("linux") and not asked_for:
            if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
                raise ScopeError("there is no display to open a window on; start from a desktop, or use --headless.")
        load_compilers()
        try:
            pygame.display.init()
            driver = pygame.display.get_driver().lower()
            if driver in INVISIBLE and driver not in asked_for.lower().split(","):
                pygame.display.quit()
                places = " and ".join(
                    os.environ[name] for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)
                )
                raise ScopeError(
                    f"no window shows on {places or 'this system'}; start from a desktop, or use --headless."
                )
            pygame.font.init()
            pygame.display.set_caption("scope-play")
            self._windowed = size
            self.fullscreen = fullscreen
            self._typing: bool | None = None
            try:
                self._open()
            except pygame.error:
                self.fullscreen = False
                self._open()
        except pygame.error as error:
            raise ScopeError(f"no window can be opened ({error}); start from a desktop, or use --headless.") from error

    @property
    def surface(self) -> pygame.Surface:
        surface = pygame.display.get_surface()
        if surface is None:
            raise pygame.error("the window is closed")
        return surface

    @property
    def theme(self) -> Theme:
        return Theme(*self.surface.get_size())

    def set_fullscreen(self, fullscreen: bool) -> None:
        """Raises ScopeError, the window being as it was, where the display refuses."""
        if fullscreen == self.fullscreen:
            return
        if fullscreen:
            self._windowed = self.surface.get_size()
        self.fullscreen = fullscreen
        try:
            self._open()
        except pygame.error as error:
            self.fullscreen = not fullscreen
            self._open()
            raise ScopeError(f"the display refuses fullscreen ({error}); play in the window.") from error

    def present(self) -> None:
        pygame.display.flip()

    def set_mouse(self, hidden: bool, held: bool) -> None:
        """Hidden while playing; held inside the window while it plays too, so that it can turn without end."""
        if pygame.mouse.get_visible() == hidden:
            pygame.mouse.set_visible(not hidden)
        if pygame.event.get_grab() != held:
            pygame.event.set_grab(held)

    def set_typing(self, typing: bool) -> None:
        """Whether a line is being written. While none is, an input method must not take keys for itself."""
        if typing is not self._typing:
            self._typing = typing
            (pygame.key.start_text_input if typing else pygame.key.stop_text_input)()

    def close(self) -> None:
        pygame.display.quit()

    def _open(self) -> None:
        if self.fullscreen:
            pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            pygame.display.set_mode(self._windowed, pygame.RESIZABLE)
        self._typing = None  # SDL turns text input on with a window


def load_compilers() -> None:
    """Triton's LLVM before that of Mesa's drivers, which a window on Linux loads: the other way round is a crash, and
    more than one path into PyTorch imports Triton later on, with or without a GPU."""
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
