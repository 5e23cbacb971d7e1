"""What is on screen for the state the app is in: which drawing, with which numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scope_play.files import place
from scope_play.loading.request import display_name
from scope_play.play import pacing
from scope_play.play.app_state import AppState
from scope_play.play.engine.protocol import Phase
from scope_play.play.input.bindings_text import caps, legend
from scope_play.play.menus.items import setting_note
from scope_play.play.menus.scenes import preview
from scope_play.play.menus.screen import Screen
from scope_play.play.ui import backdrop, frame_view, hud, panels, rewind_screen, start_screen, textbox_view
from scope_play.play.ui import theme as look
from scope_play.play.ui.keycaps import Holding
from scope_play.play.ui.start_screen import StartLook

if TYPE_CHECKING:
    import pygame

    from scope_play.play.input.bindings import ControllerMap
    from scope_play.play.input.devices import Devices
    from scope_play.play.input.translator import PadProfile
    from scope_play.play.ui.theme import Theme

STATS_EVERY = 0.25
"""Seconds between new numbers: faster they could not be read."""


class Compositor:
    """Draws what `state` says, and nothing else: it changes no state but its own."""

    def __init__(self, state: AppState, controls: ControllerMap) -> None:
        self._state = state
        self._controls = controls
        self._stats = hud.Stats(0.0, "", state.playback.split)
        self._stats_at = float("-inf")

    def paint(self, surface: pygame.Surface, theme: Theme, devices: Devices, now: float) -> None:
        """The whole window, from the frame to the last overlay."""
        state = self._state
        if state.screen is Screen.START:
            start_screen.draw(surface, theme, state.menu, self._start_look(devices, now))
        else:
            self._background(surface)
            self._overlay(surface, theme, devices, now)
        if state.box:
            backdrop.dim(surface)
            textbox_view.draw(surface, theme, state.box, self._holding(devices))
            hud.draw_banner(surface, theme, state.message.text, state.message.alert)

    def hud(self, devices: Devices, now: float) -> hud.Shown:
        """What is shown over the frame while playing."""
        state, playback = self._state, self._state.playback
        if now - self._stats_at >= STATS_EVERY:
            self._stats = hud.Stats(playback.fps, pacing.hint(playback.pace), playback.split)
            self._stats_at = now
        return hud.Shown(
            stats=self._stats if state.settings.show_stats else None,
            pad=devices.state if state.settings.show_pad else None,
            recording=state.capture.seconds(),
            badge="untrained" if playback.spec and not playback.spec.trained else "",
            message=state.message.text,
            alert=state.message.alert,
        )

    def _background(self, surface: pygame.Surface) -> None:
        state, shot = self._state, self._state.playback.shot
        frame = shot.frame if shot else state.own_picture
        if state.screen is Screen.REWIND and len(state.playback.strip):
            frame = state.playback.strip[state.chosen_chunk]
        if frame is None:
            surface.fill(look.INK)
        else:
            frame_view.clear_around(surface, frame_view.fit_frame(surface, frame, state.settings.smooth))

    def _overlay(self, surface: pygame.Surface, theme: Theme, devices: Devices, now: float) -> None:
        state, status = self._state, self._state.engine.status
        match state.screen:
            case Screen.PLAY:
                hud.draw(surface, theme, self.hud(devices, now))
            case Screen.REWIND if status.phase is Phase.REWINDING:
                backdrop.dim(surface)
                hud.draw(surface, theme, hud.Shown(message=status.text))
            case Screen.REWIND if status.spec:
                seconds = status.spec.frames_per_chunk / status.spec.fps
                rewind_screen.draw(
                    surface, theme, state.playback.strip, state.chosen_chunk, seconds, self._holding(devices)
                )
                hud.draw_banner(surface, theme, state.message.text, state.message.alert)
            case Screen.CONTROLS:
                panels.draw_controls(
                    surface, theme, legend(self._controls, self._profile(devices)), self._holding(devices)
                )
                hud.draw_banner(surface, theme, state.message.text, state.message.alert)
            case Screen.SETTINGS | Screen.PAUSE:
                heading = "Settings" if state.screen is Screen.SETTINGS else "Paused"
                note = state.message.text or self._note()
                back = "back" if state.screen is Screen.SETTINGS else "resume"
                holding = self._holding(devices)
                panels.draw_panel(surface, theme, heading, note, state.menu, holding, state.message.alert, back)

    def _start_look(self, devices: Devices, now: float) -> StartLook:
        state, status = self._state, self._state.engine.status
        busy = status.phase in (Phase.LOADING, Phase.WARMING)
        holding = self._holding(devices)
        return StartLook(
            spec=status.spec,
            picture=self._scene_picture(),
            status=status.text,
            holding=holding,
            caps=caps(self._controls, self._profile(devices), holding.pad),
            working=now - status.since if busy else None,
            message=state.message.text,
            alert=state.message.alert or status.phase is Phase.FAILED,
        )

    def _note(self) -> str:
        state = self._state
        if state.screen is Screen.SETTINGS:
            return setting_note(state.settings, state.menu.item.key)
        return f"{display_name(state.form.model)}, seed {state.form.seed}"

    def _holding(self, devices: Devices) -> Holding:
        return Holding(devices.active.name, devices.active.backend != "keyboard")

    def _profile(self, devices: Devices) -> PadProfile:
        return self._controls.for_pad(devices.active.guid, devices.active.name)

    def _scene_picture(self) -> np.ndarray | None:
        form = self._state.form
        path = place(form.picture) if form.picture else form.scenes[form.scene].path
        return self._state.own_picture if path is None else preview(path)
