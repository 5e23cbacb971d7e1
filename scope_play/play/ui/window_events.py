"""Keyboard and mouse where they are more than a pad: the app's own keys, writing, and pointing."""

from __future__ import annotations

from dataclasses import replace

import pygame

from scope_play.play.app_state import Flow, Screen
from scope_play.play.settings import turned
from scope_play.play.ui import menus, textbox
from scope_play.play.ui.menus import Nav
from scope_play.play.ui.screens import screens
from scope_play.play.ui.screens import start as start_screen
from scope_play.play.ui.theme import Theme

SWITCHES: dict[int, str] = {
    pygame.K_F1: "show_stats",
    pygame.K_F2: "show_pad",
    pygame.K_F11: "fullscreen",
}


def press(flow: Flow, event: pygame.event.Event, now: float) -> None:
    """A key went down: one of the app's own, or an editing key while a line is being written."""
    if event.key in SWITCHES:
        flow.settings = turned(flow.settings, SWITCHES[event.key], 1)
    elif event.key == pygame.K_F12:
        flow.screenshot(now)
    elif event.key == pygame.K_F9 and flow.screen in (Screen.PLAY, Screen.PAUSE):
        flow.toggle_recording(now)
    elif flow.box:
        _edit(flow, event, now)


def write(flow: Flow, text: str) -> None:
    """Characters were typed."""
    if flow.box:
        flow.box = textbox.typed(flow.box, text)
        flow.changed = True


def point(flow: Flow, theme: Theme, event: pygame.event.Event, now: float) -> None:
    """The mouse moved or was pressed over a menu or the key grid: what it points at gets the focus."""
    pressed = event.type == pygame.MOUSEBUTTONDOWN and event.button == 1
    if flow.box:
        for row, column, rect in textbox.key_rects(theme):
            if rect.collidepoint(event.pos):
                flow.box = replace(flow.box, row=row, column=column)
                flow.changed = True
                if pressed:
                    flow.navigate(Nav.OK, now)
                return
    elif flow.screen in (Screen.START, Screen.PAUSE, Screen.SETTINGS):
        layout = start_screen.layout if flow.screen is Screen.START else screens.pause_layout
        number = menus.item_at(theme, flow.menu, layout(theme, len(flow.menu.items))["menu"], event.pos)
        if number is None:
            return
        if number != flow.menu.focus:
            flow.menu = replace(flow.menu, focus=number)
            flow.changed = True
        if pressed:
            flow.navigate(Nav.OK, now)
    elif flow.screen is Screen.CONTROLS and pressed:
        flow.navigate(Nav.BACK, now)


def _edit(flow: Flow, event: pygame.event.Event, now: float) -> None:
    if flow.box is None:
        return
    flow.changed = True
    if event.key in (pygame.K_RETURN, pygame.K_KP_ENTER):
        flow.finish_text(now)
    elif event.key == pygame.K_ESCAPE:
        flow.box = None
    elif event.key == pygame.K_BACKSPACE:
        flow.box = textbox.deleted(flow.box)
    elif event.key == pygame.K_v and event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META):
        write(flow, pygame.scrap.get_text())
