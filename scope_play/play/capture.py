"""What is kept of a game: its recording, with all a `Recorder` must know gathered from the player, and screenshots."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from scope_play.actions import FPS
from scope_play.errors import ScopeError
from scope_play.files import for_people, user_folder

if TYPE_CHECKING:
    from scope_play.play.engine.protocol import Opened, Step
    from scope_play.play.input.bindings import ControllerMap
    from scope_play.play.input.translator import Device
    from scope_play.play.playback import Playback
    from scope_play.recording.metadata import InputSetup
    from scope_play.recording.recorder import Recorder


def screenshot_path(now: datetime) -> Path:
    return user_folder("pictures") / f"{now:%Y-%m-%d_%H-%M-%S}_{now.microsecond // 1000:03d}.png"


def save_screenshot(path: Path, frame: np.ndarray) -> None:
    """The frame as the model made it, uint8 (H, W, 3)."""
    from scope_play.recording.clip import write_png

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, frame)
    except OSError as error:
        raise ScopeError(
            f"the screenshot cannot be saved to {path} ({error.strerror}); check its folder's rights."
        ) from error


LIBRARIES = (
    *("PIL.PngImagePlugin", "av.subtitles.stream", "numpy.ma", "pyarrow.parquet"),  # some are loaded by others late
    "scope_play.recording.recorder",
)


def load_libraries() -> None:
    """Load all that a recording or a screenshot needs: a second or two, which play must not stand still for."""
    for name in LIBRARIES:
        importlib.import_module(name)


def input_setup(device: Device, controls: ControllerMap, mode: str) -> InputSetup:
    """What a recording keeps of the device that plays."""
    from scope_play.recording.metadata import InputSetup

    if device.backend == "keyboard":
        return InputSetup(mode=mode, pad_name=device.name)
    profile = controls.for_pad(device.guid, device.name)
    return InputSetup(
        mode=mode,
        dead_zone=profile.left.dead_zone,
        right_dead_zone=profile.right.dead_zone,
        axis_signs={
            "left_x": 1,
            "right_x": 1,
            "left_y": -1 if profile.left.invert_y else 1,
            "right_y": -1 if profile.right.invert_y else 1,
        },
        pad_name=device.name,
        pad_guid=device.guid,
    )


class Capture:
    """The recording of the present game. `say` and `complain` take a sentence for the player and the time."""

    def __init__(
        self,
        playback: Playback,
        inputs: Callable[[], InputSetup],
        say: Callable[[str, float], None],
        complain: Callable[[str, float], None],
    ) -> None:
        self._playback = playback
        self._inputs = inputs
        self._say = say
        self._complain = complain
        self._trouble = ""
        self._played_with: InputSetup | None = None
        self.obstacle = ""
        """Why this game cannot be recorded; empty when it can."""

    def seconds(self) -> float | None:
        """How much has been recorded, pauses apart; None if nothing is."""
        recording = self._playback.recording
        return recording.status.frames / FPS if recording else None

    def start(self, folder: Path, now: float) -> None:
        """Begin; what prevents it is told."""
        if self.obstacle:
            self._complain(self.obstacle, now)
            return
        try:
            inputs = self._inputs()
            self._playback.record(start(self._playback, folder, inputs))
        except ScopeError as error:
            self._complain(str(error), now)
            return
        self._trouble, self._played_with = "", inputs
        self._say(f"Recording to {for_people(folder)}", now)

    def stop(self, now: float) -> None:
        self._playback.stop_recording("stopped by the player")
        self._say("Recording saved.", now)

    def screenshot(self, frame: np.ndarray, now: float) -> None:
        """Keep the frame as the model made it, uint8 (H, W, 3), and tell where."""
        path = screenshot_path(datetime.now())
        try:
            save_screenshot(path, frame)
        except ScopeError as error:
            self._complain(str(error), now)
        else:
            self._say(f"Saved {path.name} in {for_people(path.parent)}", now)

    def watch(self, now: float) -> None:
        """Tell once what goes wrong, let go of a recording that ended by itself, and note another device or mode."""
        recording = self._playback.recording
        if recording is None:
            return
        inputs = self._inputs()
        if self._played_with not in (None, inputs):
            recording.mark({"event": "input", **asdict(inputs)})
        self._played_with = inputs
        status = recording.status
        if status.text != self._trouble:
            self._trouble = status.text
            if status.text:
                self._complain(status.text, now)
        if status.state == "stopped":
            self._playback.stop_recording(status.text)


class Played(Protocol):
    """What a recording that begins must know of a game: a `Playback` has it."""

    @property
    def opened(self) -> Opened | None: ...

    @property
    def resting_frame(self) -> np.ndarray | None: ...

    @property
    def prompt(self) -> str | None: ...

    @property
    def steps(self) -> list[Step]: ...


def start(playback: Played, folder: Path, inputs: InputSetup) -> Recorder:
    """Record from the frame on screen on; what was played before goes along so that the clip can be replayed."""
    from scope_play.recording.metadata import ClipHeader
    from scope_play.recording.recorder import PlayedBefore, Recorder

    opened, frame = playback.opened, playback.resting_frame
    if opened is None or frame is None:
        raise ScopeError("there is nothing to record yet; start a game first.")
    header = ClipHeader.of(
        opened.spec,
        opened.identity,
        build=opened.build,
        seed=opened.begin.seed,
        prompt=playback.prompt,
        inputs=inputs,
    )
    before = None
    if playback.steps:
        rows = np.concatenate([step.rows for step in playback.steps])
        before = PlayedBefore(opened.first_frame, rows, [step.prompt for step in playback.steps])
    return Recorder(folder, header, frame, before=before)
