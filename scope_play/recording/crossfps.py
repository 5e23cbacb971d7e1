"""Clips of the CrossFPS data set, read as recordings: video, actions, and perhaps a caption, made by no network.

video.mp4            20 fps
actions_raw.parquet  row i belongs to frame i; older clips call it actions.parquet
metadata.json        an object of theirs, without our `schema`; a `caption` in it is the prompt
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from scope_play.actions import FPS, FRAMES_PER_LATENT, fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.recording.clip import ACTIONS, VIDEO, Clip, FrameColumns, chunk_of_frame
from scope_play.recording.metadata import (
    METADATA,
    SCHEMA,
    BuildSetup,
    ClipHeader,
    Ending,
    Metadata,
    ModelSetup,
    Prompt,
)
from scope_play.recording.video import frames_at_rate, read_frames

OLDER_ACTIONS = "actions.parquet"
CAMERA = ModelSetup("none", "", 0, 0, 0.0, "recorded", 0.0, 0.0, "none", "none")
"""No network made these frames."""


def is_crossfps(path: Path) -> bool:
    """Whether a folder has a video, actions and metadata that are not of a recording of this app."""
    return (path / VIDEO).is_file() and actions_of(path).is_file() and "schema" not in _described(path)


def actions_of(path: Path) -> Path:
    """The action file of a clip folder, by today's name or the older one."""
    return path / ACTIONS if (path / ACTIONS).is_file() else path / OLDER_ACTIONS


def game_of(path: Path) -> str | None:
    """Which game a clip is of, where its metadata say."""
    game = _described(path).get("game")
    return game if isinstance(game, str) else None


def first_frame(path: Path) -> np.ndarray:
    """uint8 (H, W, 3)."""
    return next(read_frames(path / VIDEO))


def read_crossfps(path: Path) -> Clip:
    """A clip folder whose video has one frame a twentieth of a second and a row for each.

    Raises ScopeError where it has not, or a file is damaged.
    """
    frames = frames_at_rate(path / VIDEO, FPS)
    rows = read_actions(actions_of(path))
    if not frames - 1 <= len(rows) <= frames:
        raise ScopeError(f"{actions_of(path)} has {len(rows)} rows for {frames} frames; get the clip again.")
    height, width = first_frame(path).shape[:2]
    caption = _described(path).get("caption")
    prompt = caption if isinstance(caption, str) else None
    header = ClipHeader(
        FPS, height, width, FRAMES_PER_LATENT, 0, prompt, CAMERA, BuildSetup("", "", None, "", ""), synthetic=False
    )
    zeros = np.zeros(frames)
    columns = FrameColumns(
        chunk_of_frame(frames, FRAMES_PER_LATENT), zeros.astype(np.int64), zeros, zeros, ("",) * frames
    )
    metadata = Metadata(SCHEMA, header, frames, frames, (Prompt(0, 0, prompt),), (), Ending("recorded"))
    return Clip(path, metadata, fit_rows(rows, frames), columns)


def _described(path: Path) -> dict[str, object]:
    where = path / METADATA
    if not where.is_file():
        return {}
    try:
        found = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScopeError(f"{where} cannot be read ({error}); restore it from a copy.") from error
    return found if isinstance(found, dict) else {"schema": None}
