"""What is kept of games: recordings of what was shown, in a table of clips to list, fetch and check."""

from __future__ import annotations

import io
import secrets
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.play import capture
from scope_play.play.engine.protocol import Opened, Step

if TYPE_CHECKING:
    from scope_play.recording.metadata import InputSetup
    from scope_play.recording.recorder import Recorder

QUOTA_BYTES = 2 << 30
"""What the recordings of one seat may take of the disk."""


@dataclass(frozen=True)
class Clip:
    path: Path
    owner: str
    frames: int
    bytes: int


class Archive:
    """Clips made since the server started. Any thread may use it. Ids are drawn, and never part of a path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._clips: dict[str, Clip] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, owner: str, frames: int) -> str:
        size = sum(file.stat().st_size for file in path.iterdir())
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._clips[name] = Clip(path, owner, frames, size)
        return name

    def clip(self, name: str) -> Clip:
        with self._lock:
            found = self._clips.get(name)
        if found is None or not found.path.is_dir():
            raise ScopeError(f"there is no clip {name[:40]!r} here; choose one of the list.")
        return found

    def listing(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            clips = list(self._clips.items())
        return [
            {"id": name, "name": clip.path.name, "frames": clip.frames, "bytes": clip.bytes}
            for name, clip in reversed(clips)
        ]

    def require_room(self, owner: str, more: int = 0) -> None:
        """Raises ScopeError if the owner's clips, and `more` bytes, are all that a seat may have."""
        with self._lock:
            used = more + sum(clip.bytes for clip in self._clips.values() if clip.owner == owner)
        if used > QUOTA_BYTES:
            raise ScopeError(f"your recordings take {used >> 20} MB here, all that a seat may have; no more are kept.")


def zipped(clip: Clip) -> Iterator[bytes]:
    """The clip folder as a zip file, piece by piece; video is stored as it is."""
    sink = _Pieces()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(clip.path.iterdir()):
            with file.open("rb") as source, archive.open(f"{clip.path.name}/{file.name}", "w") as target:
                while piece := source.read(1 << 18):
                    target.write(piece)
                    yield from sink.taken()
    yield from sink.taken()


class _Pieces(io.RawIOBase):
    """A file that can only be written; `taken` are the bytes since the last time."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        yield from pieces


@dataclass
class Tape:
    """What of one game has been shown, and its recording. All of it belongs to one thread, the game's film's.

    Its first four fields are what `play.capture.start` asks of a player.
    """

    opened: Opened
    prompt: str | None
    resting_frame: np.ndarray
    steps: list[Step] = field(default_factory=list)
    recording: Recorder | None = None
    trouble: str = ""
    _prompt_ids: dict[str | None, int] = field(default_factory=dict)

    def start(self, folder: Path, inputs: InputSetup) -> None:
        """From the picture on screen on. Raises ScopeError if nothing can be written."""
        if self.recording is None:
            self.recording = capture.start(self, folder, inputs)
            self._prompt_ids, self.trouble = {self.prompt: 0}, ""

    def shown(
        self, frames: np.ndarray, step: Step, sampled: float, shown: float, complain: Callable[[str], None]
    ) -> None:
        """A chunk is on screen. Times in seconds of the player's clock; `complain` gets what goes wrong, once."""
        self.steps.append(step)
        self.prompt, self.resting_frame = step.prompt, frames[-1]
        recording = self.recording
        if recording is None:
            return
        if step.prompt not in self._prompt_ids:
            self._prompt_ids[step.prompt] = len(self._prompt_ids)
            recording.mark({"event": "prompt", "id": self._prompt_ids[step.prompt], "text": step.prompt})
        recording.add_chunk(frames, step.rows, sampled, shown, self._prompt_ids[step.prompt])
        if (trouble := recording.status.text) != self.trouble:
            self.trouble = trouble
            complain(trouble)

    def went_back(self, chunk: int, frame: np.ndarray) -> None:
        del self.steps[chunk:]
        self.prompt = self.steps[-1].prompt if self.steps else self.opened.begin.prompt
        self.resting_frame = frame
        if self.recording:
            self.recording.mark({"event": "rewind", "to_chunk": chunk})

    def stand_after(self, steps: list[Step]) -> np.ndarray:
        """At a snapshot. Returns the picture that stays on screen."""
        self.steps = list(steps)
        return self.resting_frame

    def written(self) -> int:
        """Bytes of the recording so far."""
        return sum(file.stat().st_size for file in self.recording.path.iterdir()) if self.recording else 0

    def let_go(self) -> Recorder | None:
        """The recording, to be closed where that may take its time."""
        recording, self.recording = self.recording, None
        return recording
