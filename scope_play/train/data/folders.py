"""Recorded clip folders (video.mp4, actions_raw.parquet, metadata.json) as training clips: random stretches of them.

A stretch that begins inside a recording is treated as a session of its own, as at inference. None reaches over a
rewind, where one frame does not follow from the one before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scope_play.actions import FPS, fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.files import for_people
from scope_play.recording.video import frames_at, frames_at_rate
from scope_play.train.data.sources import Clips, frames_of
from scope_play.train.loop import generator


@dataclass(frozen=True)
class Stretch:
    """Frames `first` to `end` - 1 of a recording, each following from the one before."""

    folder: Path
    first: int
    end: int

    def beginnings(self, frames: int) -> int:
        """Where a clip of so many frames can begin."""
        return max(0, self.end - self.first - frames + 1)


class FolderSource:
    """Clips of up to `latents` latents; every one that the recordings hold is drawn as often as any other.

    All folders are looked at first. `left_out` says which cannot be learned from, and why; nothing of a video stays in
    memory. Raises ScopeError if none is left.
    """

    def __init__(self, folders: Sequence[Path], *, seed: int = 0, height: int, width: int, latents: int) -> None:
        self.seed, self.height, self.width, self._longest = seed, height, width, frames_of(latents)
        self.left_out: list[str] = []
        self._stretches: list[Stretch] = []
        for folder in folders:
            try:
                self._stretches += usable(folder, self._longest)
            except ScopeError as error:
                self.left_out.append(str(error))
        if not self._stretches:
            why = self.left_out[0] if folders else "none is given"
            raise ScopeError(f"of {len(folders)} clip folders none can be learned from: {why}")

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> Clips:
        draw = generator(self.seed, f"folders/{purpose}", step)
        count = frames_of(latents)
        if count > self._longest:
            raise ValueError(f"clips of {count} frames were asked for, folders were looked through for {self._longest}")
        ends = np.cumsum([stretch.beginnings(count) for stretch in self._stretches])
        frames, rows = [], []
        for number in torch.randint(int(ends[-1]), (batch,), generator=draw).tolist():
            at = int(np.searchsorted(ends, number, "right"))
            stretch = self._stretches[at]
            begin = stretch.first + number - (int(ends[at - 1]) if at else 0)
            frames.append(self._frames(stretch.folder, begin, count))
            rows.append(rows_of(stretch.folder, stretch.end)[begin : begin + count])
        return Clips(np.stack(frames), np.stack(rows).astype(np.float32))

    def _frames(self, folder: Path, begin: int, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3), cropped about the centre and resized."""
        from PIL import Image

        made = []
        for frame in frames_at(folder / "video.mp4", range(begin, begin + count)):
            box = centre_box(frame.shape[1], frame.shape[0], self.height / self.width)
            image = Image.fromarray(frame).resize((self.width, self.height), Image.Resampling.BICUBIC, box=box)
            made.append(np.asarray(image))
        return np.stack(made)


def clip_folders(root: Path) -> list[Path]:
    """The clip folders at or below `root`, sorted; unfinished recordings (`*.partial`) are left out."""
    videos = sorted(root.rglob("video.mp4"))
    found = [video.parent for video in videos if video.parent.suffix != ".partial"]
    if not found:
        raise ScopeError(
            f"{for_people(root)} holds no clip folder with a video.mp4; give the folder that recordings were written to"
        )
    return found


def usable(folder: Path, frames: int) -> list[Stretch]:
    """The unbroken stretches of a recording that are at least so many frames long.

    Raises ScopeError where there is none: a file is missing or damaged, pictures do not come twenty a second, as the
    video itself has them, or rows do not belong to them.
    """
    video = folder / "video.mp4"
    for name in ("video.mp4", "actions_raw.parquet", "metadata.json"):
        if not (folder / name).is_file():
            raise ScopeError(
                f"{for_people(folder)} has no {name}; a clip folder holds video.mp4, actions_raw.parquet, metadata.json"
            )
    total = frames_at_rate(video, FPS)
    rows_of(folder, total)
    cuts = sorted({frame for frame in _rewinds(folder / "metadata.json") if 0 < frame < total})
    parts = [Stretch(folder, a, b) for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
    long_enough = [part for part in parts if part.beginnings(frames)]
    if not long_enough:
        longest = max(part.end - part.first for part in parts)
        rewinds = f" between {len(cuts)} rewinds" if cuts else ""
        raise ScopeError(
            f"{for_people(folder)} has {longest} frames{rewinds} where {frames} are needed; leave it out, "
            f"or ask for shorter clips with --recipe '{{\"latents\": N}}'"
        )
    return long_enough


def rows_of(folder: Path, frames: int) -> np.ndarray:
    """One row a frame, float32 (frames, 10): frame i + 1 follows from row i, so the last may be missing."""
    path = folder / "actions_raw.parquet"
    rows = read_actions(path)
    if len(rows) < frames - 1:
        raise ScopeError(f"{for_people(path)} has {len(rows)} rows for {frames} frames; record or export it again")
    return fit_rows(rows, frames)


def _rewinds(path: Path) -> list[int]:
    """The frames at which a recording goes on from an earlier one; other programs' metadata name none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [int(branch["frame"]) for branch in found.get("branches", [])]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise ScopeError(
            f"{for_people(path)} is not the metadata of a clip ({error}); restore it, or remove its folder"
        ) from error


def centre_box(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    wide, high = min(width, height / aspect), min(height, width * aspect)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
