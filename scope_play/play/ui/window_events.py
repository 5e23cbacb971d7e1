"""Keyboard and mouse where they are more than a pad: the app's own keys, writing, and pointing."""

from __future__ import annotations

from dataclasses import replace

import pygame

from scope_play.play.app_state import AppState
from scope_play.play.menus import textbox
from scope_play.play.menus.menu import Nav
from scope_play.play.menus.screen import Screen
from scope_play.play.settings import turned
from scope_play.play.ui import menu_view, panels, start_screen, textbox_view
from scope_play.play.ui.theme import Theme

SWITCHES: dict[int, str] = {
    pygame.K_F1: "show_stats",
    pygame.K_F2: "show_pad",
    pygame.K_F11: "fullscreen",
}

LATIN = 0x7F
"""Key codes above it are of letters that are not Latin."""


def press(state: AppState, event: pygame.event.Event, now: float) -> None:
    """A key went down: one of the app's own, or an editing key while a line is being written."""
    if event.key in SWITCHES:
        state.settings = turned(state.settings, SWITCHES[event.key], 1)
    elif event.key == pygame.K_F12:
        state.screenshot(now)
    elif event.key == pygame.K_F9 and state.screen in (Screen.PLAY, Screen.PAUSE):
        state.toggle_recording(now)
    elif state.box:
        _edit(state, event, now)


def write(state: AppState, text: str) -> None:
    """Characters were typed."""
    if state.box:
        state.box = textbox.typed(state.box, text)
        state.changed = True


def point(state: AppState, theme: Theme, event: pygame.event.Event, now: float) -> None:
    """The mouse moved or was pressed over a menu or the key grid: what it points at gets the focus."""
    pressed = event.type == pygame.MOUSEBUTTONDOWN and event.button == 1
    if state.box:
        for row, column, rect in textbox_view.key_rects(theme):
            if rect.collidepoint(event.pos):
                state.box = replace(state.box, row=row, column=column)
                state.changed = True
                if pressed:
                    state.navigate(Nav.OK, now)
                return
    elif state.screen in (Screen.START, Screen.PAUSE, Screen.SETTINGS):
        layout = start_screen.layout if state.screen is Screen.START else panels.pause_layout
        number = menu_view.item_at(theme, state.menu, layout(theme, len(state.menu.items))["menu"], event.pos)
        if number is None:
            return
        if number != state.menu.focus:
            state.menu = replace(state.menu, focus=number)
            state.changed = True
        if pressed:
            state.navigate(Nav.OK, now)
    elif state.screen is Screen.CONTROLS and pressed:
        state.navigate(Nav.BACK, now)


def _edit(state: AppState, event: pygame.event.Event, now: float) -> None:
    if state.box is None:
        return
    state.changed = True
    if event.key in (pygame.K_RETURN, pygame.K_KP_ENTER):
        state.finish_text(now)
    elif event.key == pygame.K_ESCAPE:
        state.box = None
    elif event.key == pygame.K_BACKSPACE:
        state.box = textbox.deleted(state.box)
    elif _means_v(event) and event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META):
        write(state, pygame.scrap.get_text())


def _means_v(event: pygame.event.Event) -> bool:
    """The key that types v; where the layout has no Latin letters, the one in its place."""
    in_place = getattr(event, "scancode", None) == pygame.KSCAN_V and event.key > LATIN
    return event.key == pygame.K_v or in_place
