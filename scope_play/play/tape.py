"""Starting a recording of the game that is being played: what a `Recorder` must know, gathered from the player."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.play.metadata import InputSetup
    from scope_play.play.player import Player
    from scope_play.play.recorder import Recorder


def default_folder() -> Path:
    """Where recordings go unless the player says otherwise."""
    from platformdirs import user_videos_path

    return user_videos_path() / "scope-play"


def screenshot_path(now: datetime) -> Path:
    from platformdirs import user_pictures_path

    return user_pictures_path() / "scope-play" / f"{now:%Y-%m-%d_%H-%M-%S}_{now.microsecond // 1000:03d}.png"


def save_screenshot(path: Path, frame: np.ndarray) -> None:
    """The frame as the model made it, uint8 (H, W, 3)."""
    from scope_play.play.clip import write_png

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, frame)
    except OSError as error:
        raise ScopeError(
            f"the screenshot cannot be saved to {path} ({error.strerror}); check its folder's rights."
        ) from error


def start(player: Player, folder: Path, inputs: InputSetup) -> Recorder:
    """Record from the frame on screen on; what was played before goes along so that the clip can be replayed."""
    from scope_play.play.metadata import ClipHeader
    from scope_play.play.recorder import PlayedBefore, Recorder

    opened, frame = player.opened, player.resting_frame
    if opened is None or frame is None:
        raise ScopeError("there is nothing to record yet; start a game first.")
    header = ClipHeader.of(
        opened.spec,
        opened.identity,
        seed=opened.begin.seed,
        prompt=player.prompt,
        inputs=inputs,
    )
    before = None
    if player.steps:
        rows = np.concatenate([step.rows for step in player.steps])
        before = PlayedBefore(opened.first_frame, rows, [step.prompt for step in player.steps])
    return Recorder(folder, header, frame, before=before)
