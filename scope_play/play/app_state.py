"""Which screen the player is on and what a choice there does. Draws nothing and reads no device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.errors import ScopeError
from scope_play.files import place, user_folder
from scope_play.loading.request import display_name
from scope_play.play import stream_settings
from scope_play.play.capture import Capture
from scope_play.play.engine.protocol import (
    Adopted,
    Begin,
    EngineLike,
    Event,
    Failed,
    Interrupted,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    Refused,
    WentBack,
)
from scope_play.play.menus import items, textbox
from scope_play.play.menus.menu import Chosen, Menu, Nav, navigate, with_items
from scope_play.play.menus.scenes import shipped_scenes
from scope_play.play.menus.screen import Message, Screen
from scope_play.play.menus.start_form import line_for, turned_form, with_picture, with_seed
from scope_play.play.playback import Playback
from scope_play.play.settings import Settings, turned

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.recording.metadata import InputSetup

MESSAGE_SECONDS = 4.0
JUMP_SECONDS = 5.0


@dataclass
class AppState:
    """`changed` is set whenever the screen has to be drawn again; `over` when the player wants to leave the app;
    `failed` once a model could not be loaded or has stopped.

    `request` says how to load a model of that name; `report` gets every sentence that says something went wrong (the
    app prints it on stderr).
    """

    engine: EngineLike
    playback: Playback
    settings: Settings
    form: items.Form
    request: Callable[[str], LoadRequest]
    start_taking: Callable[[], None]
    inputs: Callable[[], InputSetup]
    report: Callable[[str], None]
    record_dir: Path | None = None
    autoplay: bool = False
    screen: Screen = Screen.START
    menu: Menu = field(default_factory=lambda: Menu(()))
    box: textbox.TextBox | None = None
    chosen_chunk: int = 0
    message: Message = field(default_factory=Message)
    own_picture: np.ndarray | None = None
    changed: bool = True
    over: bool = False
    failed: bool = False
    _came_from: Screen = Screen.START
    _going_back: bool = False
    _opening: bool = False
    _interrupted: bool = False

    def __post_init__(self) -> None:
        self.capture = Capture(self.playback, self.inputs, self.say, self.complain)

    def load(self) -> None:
        """Load the form's model; the start screen shows how far it is."""
        self.own_picture = None
        self.engine.post(Load(stream_settings.with_chunk(self.request(self.form.model), self.settings)))

    def navigate(self, nav: Nav, now: float) -> None:
        self.changed = True
        if self.box:
            self.box, done = textbox.navigate(self.box, nav)
            if done:
                self.finish_text(now)
        elif self.screen is Screen.REWIND:
            self._navigate_rewind(nav)
        elif (nav is Nav.BACK and self.screen is not Screen.PLAY) or (nav is Nav.OK and self.screen is Screen.CONTROLS):
            self._back()
        elif self.screen not in (Screen.PLAY, Screen.CONTROLS):
            self.refresh()
            self.menu, chosen = navigate(self.menu, nav)
            if chosen:
                self.choose(chosen, now)

    def choose(self, chosen: Chosen, now: float) -> None:
        """Act on a menu item of the present screen."""
        self.changed = True
        try:
            if self.screen is Screen.START:
                self._choose_start(chosen)
            elif self.screen is Screen.PAUSE:
                self._choose_pause(chosen, now)
            elif self.screen is Screen.SETTINGS:
                self._choose_setting(chosen, now)
        except ScopeError as error:
            self.complain(str(error), now)
        self.refresh()

    def pause(self) -> None:
        """From play to the pause menu; if play is just about to go on, as soon as it does."""
        if self.screen is Screen.PLAY:
            self.playback.pause()
            self._to(Screen.PAUSE)
        elif self._opening or self._going_back:
            self._interrupted = True

    def resume(self) -> None:
        if self.playback.opened:
            self._to(Screen.PLAY)
            self.start_taking()
            self.playback.resume()
        if self._interrupted:
            self._interrupted = False
            self.pause()

    def open_rewind(self) -> None:
        """Choose a moment to go back to; from play or from the pause menu."""
        if self.screen in (Screen.PLAY, Screen.PAUSE) and len(self.playback.strip) > 1:
            self.playback.pause()
            self.chosen_chunk = self.playback.strip.newest
            self._to(Screen.REWIND)

    def toggle_recording(self, now: float) -> None:
        if self.playback.recording:
            self.capture.stop(now)
        else:
            self._start_recording(now)
        self.refresh()

    def screenshot(self, now: float) -> None:
        if self.playback.shot:
            self.capture.screenshot(self.playback.shot.frame, now)

    def take_file(self, path: str, now: float) -> None:
        """A file was dropped on the window: the picture to start from."""
        if self.screen is Screen.START:
            self.box = textbox.TextBox("picture", "Path of a picture", path)
            self.finish_text(now)
        else:
            self.say("Go back to the start screen to begin from another picture.", now)

    def finish_text(self, now: float) -> None:
        box, self.box = self.box, None
        if box is None:
            return
        self.changed = True
        text = box.text.strip()
        try:
            if box.key == "picture":
                self.form = with_picture(self.form, text.strip("'\""))
            elif box.key == "seed":
                self.form = with_seed(self.form, text)
            elif self.screen is Screen.START:
                self.form = replace(self.form, prompt=text)
            else:
                self.playback.set_prompt(text)
                self.say("The new prompt holds from the next moment on.", now)
        except ScopeError as error:
            self.complain(str(error), now)
        self.refresh()

    def heed(self, event: Event, now: float) -> None:
        match event:
            case Made():
                return
            case Loaded(spec, picture, note):
                self.own_picture = picture
                if note:
                    self.say(note, now, alert=True)
                if self.form.prompt and not spec.has_text:
                    self.complain(f"{display_name(spec.name)} takes no prompt; it is played without one.", now)
                autoplay, self.autoplay = self.autoplay, False
                if autoplay:
                    self._begin()
            case Opened():
                self._opening, self.capture.obstacle = False, ""
                if self.form.record:
                    self._start_recording(now)
                self.resume()
            case Adopted():
                self.capture.obstacle = stream_settings.NOT_IN_THIS_GAME
                self.say(stream_settings.told(event), now)
            case WentBack():
                self._going_back = False
                self.resume()
            case Failed(text):
                self._going_back = self._opening = self._interrupted = False
                self.autoplay, self.failed = False, True
                self._to(Screen.START)
                self.complain(text, now)
            case Interrupted(text):
                self.pause()
                self.say(text, now, alert=True)
            case Refused(text):
                self.complain(text, now)
        self.changed = True
        self.refresh()

    def say(self, text: str, now: float, alert: bool = False) -> None:
        self.message = Message(text, alert, now + MESSAGE_SECONDS * (2 if alert else 1))
        self.changed = True

    def complain(self, text: str, now: float) -> None:
        """On screen and to whoever reads stderr."""
        self.report(text)
        self.say(text[:1].upper() + text[1:], now, alert=True)

    def refresh(self) -> None:
        """Bring the menu's items up to date, keeping the focus."""
        spec = self.engine.status.spec
        if self.screen is Screen.START:
            waiting = "" if self._ready else "when loaded" if self.autoplay else self.engine.status.phase.value
            offered = items.start_items(self.form, spec, waiting)
        elif self.screen is Screen.PAUSE:
            offered = items.pause_items(spec, self.playback.recording is not None)
        elif self.screen is Screen.SETTINGS:
            offered = items.settings_items(self.settings)
        else:
            return
        if tuple(offered) != self.menu.items:
            self.menu = with_items(self.menu, offered)
            self.changed = True

    def _to(self, screen: Screen) -> None:
        self.screen, self.box = screen, None
        self.menu = Menu(())
        self.changed = True
        self.refresh()

    def _back(self) -> None:
        if self.screen is Screen.PAUSE:
            self.resume()
        elif self.screen in (Screen.SETTINGS, Screen.CONTROLS):
            self._to(self._came_from)

    def _choose_start(self, chosen: Chosen) -> None:
        if chosen.key == "play":
            self._begin()
        elif chosen.key == "model":
            form = turned_form(self.form, chosen)
            self.form = replace(form, scenes=shipped_scenes(display_name(form.model)), scene=0)
            self.load()
        elif not chosen.step and (box := line_for(self.form, chosen.key)):
            self.box = box
        elif chosen.key in ("scene", "seed", "record"):
            self.form = turned_form(self.form, chosen)
        else:
            self._choose_common(chosen)

    def _choose_pause(self, chosen: Chosen, now: float) -> None:
        match chosen.key:
            case "resume":
                self.resume()
            case "rewind":
                self.open_rewind()
            case "restart":
                if opened := self.playback.opened:
                    self._open(opened.begin)
            case "prompt":
                self.box = textbox.TextBox("prompt", "Prompt", self.playback.prompt or "")
            case "record":
                self.toggle_recording(now)
            case "screenshot":
                self.screenshot(now)
            case "leave":
                self.playback.leave("left the game")
                self._to(Screen.START)
            case _:
                self._choose_common(chosen)

    def _choose_common(self, chosen: Chosen) -> None:
        if chosen.key in ("settings", "controls"):
            self._came_from = self.screen
            self._to(Screen(chosen.key))
        elif chosen.key == "quit":
            self.over = True

    def _choose_setting(self, chosen: Chosen, now: float) -> None:
        key, step, recording = chosen.key, chosen.step or 1, self.playback.recording is not None
        if key == "back":
            self._back()
        elif key in stream_settings.KEYS:
            self.settings, text = stream_settings.turn(self.settings, key, step, self.engine, recording=recording)
            self.say(text, now)
        else:
            self.settings = turned(self.settings, key, step)

    def _navigate_rewind(self, nav: Nav) -> None:
        strip, spec = self.playback.strip, self.playback.spec
        if spec is None or self._going_back:
            return
        jump = max(1, round(JUMP_SECONDS * spec.fps / spec.frames_per_chunk))
        step = {Nav.LEFT: -1, Nav.RIGHT: 1, Nav.UP: jump, Nav.DOWN: -jump}.get(nav, 0)
        if step:
            self.chosen_chunk = min(max(self.chosen_chunk + step, strip.oldest), strip.newest)
        elif nav is Nav.OK:
            self._going_back = True
            self.playback.go_back(self.chosen_chunk)
        else:
            self._to(Screen.PAUSE)

    @property
    def _ready(self) -> bool:
        return self.engine.status.phase in (Phase.READY, Phase.PAUSED, Phase.PLAYING)

    def _begin(self) -> None:
        """Now, or as soon as the model is loaded."""
        form = self.form
        if not self._ready:
            self.autoplay = True
            if self.engine.status.phase is Phase.FAILED:
                self.load()
            return
        spec = self.engine.status.spec
        prompt = form.prompt if spec and spec.has_text else ""
        if not self._opening and prompt == form.prompt:
            self.message = Message()
        self.settings = replace(self.settings, model=form.model, seed=form.seed)
        image = place(form.picture) if form.picture else form.scenes[form.scene].path
        self._open(Begin(image, prompt or None, form.seed))

    def _open(self, begin: Begin) -> None:
        self._opening = True
        self.playback.begin(begin)

    def _start_recording(self, now: float) -> None:
        chosen = self.record_dir or self.settings.record_dir
        self.capture.start(place(chosen) if chosen else user_folder("videos"), now)
