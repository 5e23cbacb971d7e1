"""What is on screen for the state the app is in: which drawing, with which numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.play import pacing
from scope_play.play.app_state import Flow, Screen
from scope_play.play.engine.protocol import Phase
from scope_play.play.input.bindings_text import caps, legend
from scope_play.play.ui import frame_view, hud, textbox
from scope_play.play.ui import theme as look
from scope_play.play.ui.keycaps import Holding
from scope_play.play.ui.scenes import preview
from scope_play.play.ui.screens import rewind as rewind_screen
from scope_play.play.ui.screens import screens
from scope_play.play.ui.screens import start as start_screen
from scope_play.play.ui.screens.start import StartLook

if TYPE_CHECKING:
    import pygame

    from scope_play.play.input.bindings import ControllerMap
    from scope_play.play.input.devices import Hub
    from scope_play.play.input.translator import PadProfile
    from scope_play.play.ui.theme import Theme

STATS_EVERY = 0.25
"""Seconds between new numbers: faster they could not be read."""


class Painter:
    """Draws what `flow` says, and nothing else: it changes no state but its own."""

    def __init__(self, flow: Flow, controls: ControllerMap) -> None:
        self._flow = flow
        self._controls = controls
        self._stats = hud.Stats(0.0, "", flow.player.split)
        self._stats_at = float("-inf")

    def paint(self, surface: pygame.Surface, theme: Theme, hub: Hub, now: float) -> None:
        """The whole window, from the frame to the last overlay."""
        flow = self._flow
        if flow.screen is Screen.START:
            start_screen.draw(surface, theme, flow.menu, self._start_look(hub, now))
        else:
            self._background(surface)
            self._overlay(surface, theme, hub, now)
        if flow.box:
            screens.dim(surface)
            textbox.draw(surface, theme, flow.box, self._holding(hub))
            hud.draw_banner(surface, theme, flow.message.text, flow.message.alert)

    def hud(self, hub: Hub, now: float) -> hud.Shown:
        """What is shown over the frame while playing."""
        flow, player = self._flow, self._flow.player
        if now - self._stats_at >= STATS_EVERY:
            self._stats = hud.Stats(player.fps, pacing.hint(player.pace), player.split)
            self._stats_at = now
        return hud.Shown(
            stats=self._stats if flow.settings.show_stats else None,
            pad=hub.state if flow.settings.show_pad else None,
            recording=flow.tape.seconds(now),
            badge="untrained" if player.spec and not player.spec.trained else "",
            message=flow.message.text,
            alert=flow.message.alert,
        )

    def _background(self, surface: pygame.Surface) -> None:
        flow, shot = self._flow, self._flow.player.shot
        frame = shot.frame if shot else flow.own_picture
        if flow.screen is Screen.REWIND and len(flow.player.strip):
            frame = flow.player.strip[flow.chosen_chunk]
        if frame is None:
            surface.fill(look.INK)
        else:
            frame_view.clear_around(surface, frame_view.fit_frame(surface, frame, flow.settings.smooth))

    def _overlay(self, surface: pygame.Surface, theme: Theme, hub: Hub, now: float) -> None:
        flow, status = self._flow, self._flow.engine.status
        match flow.screen:
            case Screen.PLAY:
                hud.draw(surface, theme, self.hud(hub, now))
            case Screen.REWIND if status.phase is Phase.REWINDING:
                screens.dim(surface)
                hud.draw(surface, theme, hud.Shown(message=status.text))
            case Screen.REWIND if status.spec:
                seconds = status.spec.frames_per_chunk / status.spec.fps
                rewind_screen.draw(surface, theme, flow.player.strip, flow.chosen_chunk, seconds, self._holding(hub))
                hud.draw_banner(surface, theme, flow.message.text, flow.message.alert)
            case Screen.CONTROLS:
                screens.draw_controls(surface, theme, legend(self._controls, self._profile(hub)), self._holding(hub))
                hud.draw_banner(surface, theme, flow.message.text, flow.message.alert)
            case Screen.SETTINGS | Screen.PAUSE:
                heading = "Settings" if flow.screen is Screen.SETTINGS else "Paused"
                note = flow.message.text or self._note()
                back = "back" if flow.screen is Screen.SETTINGS else "resume"
                holding = self._holding(hub)
                screens.draw_panel(surface, theme, heading, note, flow.menu, holding, flow.message.alert, back)

    def _start_look(self, hub: Hub, now: float) -> StartLook:
        flow, status = self._flow, self._flow.engine.status
        busy = status.phase in (Phase.LOADING, Phase.WARMING)
        holding = self._holding(hub)
        return StartLook(
            spec=status.spec,
            picture=self._scene_picture(),
            status=status.text,
            holding=holding,
            caps=caps(self._controls, self._profile(hub), holding.pad),
            working=now - status.since if busy else None,
            message=flow.message.text,
            alert=flow.message.alert or status.phase is Phase.FAILED,
        )

    def _note(self) -> str:
        flow = self._flow
        if flow.screen is Screen.SETTINGS:
            return screens.setting_note(flow.settings, flow.menu.item.key)
        return f"{screens.model_name(flow.form.model)}, seed {flow.form.seed}"

    def _holding(self, hub: Hub) -> Holding:
        return Holding(hub.device.name, hub.device.backend != "keyboard")

    def _profile(self, hub: Hub) -> PadProfile:
        return self._controls.for_pad(hub.device.guid, hub.device.name)

    def _scene_picture(self) -> np.ndarray | None:
        form = self._flow.form
        path = Path(form.picture).expanduser() if form.picture else form.scenes[form.scene].path
        return self._flow.own_picture if path is None else preview(path)
