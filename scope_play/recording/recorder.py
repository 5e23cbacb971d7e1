"""Writes a session to a clip folder while it is played, without ever making the player wait.

`add_chunk` and `mark` only put things into a queue; one thread hashes the frames, writes the journal and then encodes
the video, so that at any moment the journal is ahead of the video and both are on their way to the disk. While it is
recorded the folder is called `<utc>_<id>.partial`; `scope_play.recording.recover` says what becomes of it.
"""

from __future__ import annotations

import atexit
import dataclasses
import errno
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from scope_play.actions import ROW_WIDTH, write_actions
from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.recording.clip import BEFORE, FIRST, PARTIAL, START, VIDEO, frame_hash
from scope_play.recording.journal import (
    JOURNAL,
    ChunkLine,
    branch_line,
    chunk_line,
    event_line,
    head_line,
    prompt_line,
    video_stopped_line,
)
from scope_play.recording.metadata import Before, Branch, ClipHeader, Ending, Prompt
from scope_play.recording.ownership import claim, release
from scope_play.recording.recover import finish
from scope_play.recording.video import Encoding, Mp4Writer

QUEUE_SECONDS = 2.0
"""How much video may wait for the encoder before the recording goes on without video."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class RecorderStatus:
    """`text` is one sentence for the screen, empty while all is well."""

    state: Literal["recording", "degraded", "stopped", "closed"]
    text: str = ""
    frames: int = 0


@dataclass(frozen=True)
class PlayedBefore:
    """What led to the present frame of a session that is already being played, rewound chunks left out.

    `start_image` uint8 (H, W, 3) is what the session began with; `rows` float32 (chunks * frames_per_chunk, 10) and
    `prompts` (one a chunk) are what it was given since.
    """

    start_image: np.ndarray
    rows: np.ndarray
    prompts: Sequence[str | None]


@dataclass(frozen=True)
class _QueuedChunk:
    line: ChunkLine
    frames: np.ndarray | None


class Recorder:
    """One recording. All methods are for one thread (the window's); none but `close` waits for the disk.

    Args:
        root: the folder for recordings; it is created.
        header: what runs; see `ClipHeader.of`.
        first_frame: uint8 (H, W, 3), what is on screen when the recording begins.
        before: needed if the session has made chunks already, so that the recording can be replayed.

    Raises:
        ScopeError: the folder cannot be created or written.
    """

    def __init__(
        self,
        root: Path,
        header: ClipHeader,
        first_frame: np.ndarray,
        *,
        before: PlayedBefore | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        if first_frame.shape != (header.height, header.width, 3) or first_frame.dtype != np.uint8:
            raise ValueError(f"the first frame is {first_frame.dtype} {first_frame.shape}, the header says otherwise")
        before = before if before and before.prompts else None
        self._header = header
        self._first_frame = first_frame
        self._frames = 1
        self._prompts = {header.prompt_id}
        played = len(before.prompts) if before else 0
        self._line_of_play = list(range(-played, 1))  # the recorded chunk behind each chunk number of the session
        self._video_frames_queued = 1
        self._video_frames_encoded = 0
        self._kept_up = (time.perf_counter(), 0.0)  # when the encoder was last abreast, and its writing time then
        self._video_problem: str | None = None
        self._broken: str | None = None  # why nothing more can be written; `_stopped` once it is known what is left
        self._stopped: str | None = None
        self._reason: str | None = None
        self._result: Path | None = None
        self._queue: SimpleQueue[bytes | _QueuedChunk | None] = SimpleQueue()
        self.path, self._lock = _create_folder(place(root), header, first_frame, before)
        self._journal = (self.path / JOURNAL).open("ab", buffering=0)
        self._video = Mp4Writer(self.path / VIDEO, header.height, header.width, header.fps, encoding)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()
        atexit.register(self.close, "the program ended")  # after a crash of the app the clip is still a valid one

    @property
    def status(self) -> RecorderStatus:
        """What the recording light should show. `frames` counts the rows accepted so far, the first image included."""
        if self._stopped is not None:
            return RecorderStatus("stopped", self._stopped, self._frames)
        if self._reason is not None and not self._thread.is_alive():
            return RecorderStatus("closed", "", self._frames)
        if self._video_problem is not None:
            return RecorderStatus("degraded", self._video_problem, self._frames)
        return RecorderStatus("recording", "", self._frames)

    def add_chunk(
        self,
        frames: np.ndarray,
        rows: np.ndarray,
        t_sampled: np.ndarray | float,
        t_shown: np.ndarray | float,
        prompt_id: int,
        hashes: tuple[str, ...] = (),
    ) -> None:
        """Records one chunk as the model made it.

        Args:
            frames: uint8 (n, H, W, 3), n being the header's frames_per_chunk; must not be changed afterwards.
            rows: float32 (n, 10), what the model was given.
            t_sampled, t_shown: seconds, one number or one a frame: when each row was read and each frame shown.
            prompt_id: the header's, or one announced by `mark`.
            hashes: the `frame_hash` of every frame as the model made it, where `frames` came compressed.
        """
        if self._broken is not None or self._reason is not None:
            return
        n = self._header.frames_per_chunk
        if frames.shape != (n, *self._first_frame.shape) or frames.dtype != np.uint8 or rows.shape != (n, ROW_WIDTH):
            raise ValueError(f"a chunk is {n} uint8 frames and rows, got {frames.dtype} {frames.shape}, {rows.shape}")
        if prompt_id not in self._prompts:
            raise ValueError(f"prompt {prompt_id} was not announced; mark it first")
        if self._video_problem is None:
            self._check_pace(n)
        with_video = self._video_problem is None
        line = ChunkLine(
            rows=np.array(rows, np.float32),
            t_sampled=np.broadcast_to(np.asarray(t_sampled, np.float64), (n,)).copy(),
            t_shown=np.broadcast_to(np.asarray(t_shown, np.float64), (n,)).copy(),
            prompt_id=prompt_id,
            hashes=hashes if with_video or hashes else tuple(map(frame_hash, frames)),
        )
        self._queue.put(_QueuedChunk(line, frames if with_video else None))
        self._video_frames_queued += n if with_video else 0
        self._frames += n
        self._line_of_play.append((self._frames - 1) // n)

    def mark(self, event: dict[str, Any]) -> None:
        """Records something that happened between the last chunk and the next.

        `{"event": "rewind", "to_chunk": k}` says that the session was set back to where it had made k chunks, and
        `{"event": "prompt", "id": i, "text": s}` that `prompt_id` i means the prompt s; any other event is kept as is.
        """
        if self._broken is not None or self._reason is not None:
            return
        kind = event.get("event")
        if kind == "rewind":
            to_chunk = event["to_chunk"]
            if not 0 <= to_chunk < len(self._line_of_play):
                raise ValueError(f"cannot rewind to chunk {to_chunk} of {len(self._line_of_play) - 1}")
            self._queue.put(branch_line(Branch(self._frames, self._line_of_play[to_chunk])))
            del self._line_of_play[to_chunk + 1 :]
        elif kind == "prompt":
            if event["id"] in self._prompts:
                raise ValueError(f"prompt {event['id']} has been announced already")
            self._prompts.add(event["id"])
            self._queue.put(prompt_line(Prompt(event["id"], self._frames, event["text"])))
        else:
            self._queue.put(event_line({**event, "frame": self._frames}))

    def stop(self, reason: str) -> None:
        """Ends the recording without waiting; the folder gets its final name in the background. Once is enough."""
        if self._reason is None:
            self._reason = reason
            self._queue.put(None)

    def close(self, reason: str) -> Path | None:
        """Ends the recording and waits until it is on the disk.

        Returns the finished clip folder, or None if it could not be finished; then `status.text` says why, and what
        was written stays in `path`.
        """
        self.stop(reason)
        self._thread.join()
        atexit.unregister(self.close)
        return self._result

    def _check_pace(self, n: int) -> None:
        """Gives up the video if the next `n` frames would have to wait too long."""
        waiting = self._video_frames_queued - self._video_frames_encoded
        now, writing = time.perf_counter(), self._video.sink.seconds_now()
        if waiting <= n:
            self._kept_up = (now, writing)
        if waiting + n <= QUEUE_SECONDS * self._header.fps:
            return
        since, written = self._kept_up
        slow = "disk" if writing - written > (now - since) / 2 else "encoder"
        self._video_problem = f"{slow} too slow, keeping actions only"
        self._queue.put(video_stopped_line(self._video_frames_queued, self._video_problem))

    def _run(self) -> None:
        """The writing thread."""
        try:
            self._write_queue()
            self._finish()
        finally:
            release(self._lock)
            if self._result is None and self._stopped is None:  # an error nobody foresaw is about to end this thread
                self._stopped = f"the recording failed; run `scope-play recover {self.path}` to keep it"

    def _write_queue(self) -> None:
        try:
            try:
                self._encode(self._first_frame)
                while (item := self._queue.get()) is not None:
                    self._write_item(item)
            finally:
                self._journal.close()
                self._video.close()
            if self._video.sink.error is not None:
                raise self._video.sink.error
        except OSError as error:
            what = "disk full" if error.errno in FULL_DISK else "the recording cannot be written"
            self._broken = f"{what}: {error.strerror}"

    def _write_item(self, item: bytes | _QueuedChunk) -> None:
        if isinstance(item, bytes):
            self._append(item)
        elif item.frames is None:
            self._append(chunk_line(item.line))
        else:
            hashes = item.line.hashes or tuple(map(frame_hash, item.frames))
            self._append(chunk_line(dataclasses.replace(item.line, hashes=hashes)))
            for frame in item.frames:
                self._encode(frame)

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._journal.write(rest) :]

    def _encode(self, frame: np.ndarray) -> None:
        self._video.write(frame)
        self._video_frames_encoded += 1

    def _finish(self) -> None:
        try:
            self._result = finish(self.path, Ending(self._broken or self._reason or "")).path
            if self._broken is not None:
                self._stopped = f"{self._broken}; the recording ends here, in {self._result}"
        except ScopeError as error:
            problem = self._broken or str(error).rstrip(".")
            self._stopped = (
                f"{problem}; free some space and run `scope-play recover {self.path}` to keep what was recorded"
            )


def _create_folder(
    root: Path, header: ClipHeader, first_frame: np.ndarray, before: PlayedBefore | None
) -> tuple[Path, FileLock]:
    """Makes the `.partial` folder, with all in it that a recovery cannot do without, and its lock, held before."""
    name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}_{secrets.token_hex(3)}"
    making, folder = root / f".{name}", root / f"{name}{PARTIAL}"
    try:
        making.mkdir(parents=True)
        _write_png(making / FIRST, first_frame)
        if before is not None:
            _write_png(making / START, before.start_image)
            write_actions(making / BEFORE, before.rows, sync=False)
        head = head_line(header, frame_hash(first_frame), _summary(header, before))
        (making / JOURNAL).write_bytes(head)
        lock = claim(folder)
        try:
            return making.rename(folder), lock
        except OSError:
            release(lock)
            raise
    except (OSError, ScopeError) as error:
        shutil.rmtree(making, ignore_errors=True)
        why = error.strerror if isinstance(error, OSError) else error
        raise ScopeError(f"No recording can be written to {root} ({why}); choose another folder.") from error


def _write_png(path: Path, image: np.ndarray) -> None:
    """Without waiting for the disk: the player would feel it. The folder gets its name when all of it is written."""
    from PIL import Image

    Image.fromarray(image).save(path, compress_level=1)


def _summary(header: ClipHeader, before: PlayedBefore | None) -> Before | None:
    """Which prompts were in force before the recording began, each from the frame where it changed."""
    if before is None:
        return None
    prompts: list[Prompt] = []
    for chunk, text in enumerate(before.prompts):
        if not prompts or prompts[-1].text != text:
            prompts.append(Prompt(len(prompts), chunk * header.frames_per_chunk, text))
    return Before(len(before.prompts), tuple(prompts))
