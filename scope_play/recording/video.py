"""H.264 in MP4: a writer whose file is playable at every moment, an exact copier, and a reader.

While recording, the file is *fragmented*: a header, then every quarter of a second a self-contained fragment that is
handed to the system at once. Killing the process costs at most the fragment being filled. B-frames and lookahead are
off (`tune=zerolatency`), so the encoder holds nothing back and packets lie in the order of the frames, which makes
cutting a copy exact.
"""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from scope_play.errors import ScopeError

SMPTE170M = 6
"""BT.601: what players assume for small pictures, and what swscale converts with by default."""
LIMITED_RANGE = 1
SEEK_BEYOND = 40
"""Frames; reading on is quicker than seeking over fewer."""

LATE = 0.1
"""Of a frame's time: by so much a frame may be shown early or late and count as in its place."""


@dataclass(frozen=True)
class Encoding:
    """x264 settings. A lower `crf` is a better picture and a larger file; 18 is hard to tell from the original."""

    crf: int = 18
    preset: str = "veryfast"
    keyframe_seconds: float = 1.0
    fragment_seconds: float = 0.25


class FileSink:
    """The file an `Mp4Writer` writes to: unbuffered, timed, and quiet about errors until asked.

    FFmpeg calls `write` from C, where an exception cannot travel well, so the first OSError is kept in `error` and
    later bytes are dropped.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.error: OSError | None = None
        self.seconds = 0.0
        self._writing_since: float | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            self._writing_since = time.perf_counter()
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = error
            self.seconds = self.seconds_now()
            self._writing_since = None
        return len(data)

    def seconds_now(self) -> float:
        """Seconds spent writing so far, a write still under way included; any thread may ask."""
        since = self._writing_since
        return self.seconds + (time.perf_counter() - since if since is not None else 0.0)

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self._file.close()


class Mp4Writer:
    """Encodes frames at a constant rate; use it from one thread. Frame i is shown at exactly i / fps seconds.

    Odd sizes are stored with full colour resolution (4:4:4), as the usual 4:2:0 only has even ones.
    """

    def __init__(self, path: Path, height: int, width: int, fps: int, encoding: Encoding | None = None) -> None:
        encoding = encoding or Encoding()
        self.frames = 0
        self.sink = FileSink(path)
        self._size = (height, width)
        self._frame_time = Fraction(1, fps)
        self._container = av.open(
            self.sink,
            "w",
            format="mp4",
            options={
                "movflags": "empty_moov+default_base_moof",
                "frag_duration": str(int(encoding.fragment_seconds * 1_000_000)),
            },
        )
        options = {"crf": str(encoding.crf), "preset": encoding.preset, "tune": "zerolatency"}
        stream: Any = self._container.add_stream("libx264", rate=fps, options=options)
        context = stream.codec_context
        context.height, context.width = height, width
        context.pix_fmt = pixel_format(height, width)
        context.gop_size = max(1, round(encoding.keyframe_seconds * fps))
        context.thread_count = 1  # the other cores belong to the model
        context.color_range = LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = SMPTE170M
        self._stream = stream

    def write(self, frame: np.ndarray) -> None:
        """Adds one uint8 frame `(H, W, 3)`. Raises the OSError of the file if it cannot take more."""
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape {(*self._size, 3)}, got {frame.dtype} {frame.shape}")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self.frames, self._frame_time
        self._container.mux(self._stream.encode(picture))
        self.frames += 1
        if self.sink.error is not None:
            raise self.sink.error

    def close(self) -> None:
        """Writes the last fragment and closes the file, also after an error."""
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        finally:
            self.sink.close()


def pixel_format(height: int, width: int) -> str:
    """How `Mp4Writer` stores pictures of this size."""
    return "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"


def whole_bytes(path: Path) -> int:
    """How many bytes of a file from `Mp4Writer` are whole fragments; 0 if not even the header is.

    An unfragmented mp4 counts as whole.
    """
    size = path.stat().st_size
    end = whole = 0
    fragmented = False
    with path.open("rb") as file:
        while end + 8 <= size:
            file.seek(end)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0]
            if length < 8 or end + length > size:
                break
            end += length
            fragmented |= kind == b"moof"
            if kind in (b"moov", b"mdat") or (not fragmented and whole):
                whole = end
    return whole


def copy_frames(source: Path, target: Path, frames: int | None = None) -> int:
    """Copies the first `frames` frames (None: all) that are whole into a plain mp4 without encoding anew.

    Returns the number of frames in `target`; 0 if `source` holds none, in which case nothing is written. The index
    comes first in the new file, so it plays while it loads.

    Raises:
        ScopeError: `target` cannot be written.
    """
    whole = whole_bytes(source) if source.is_file() else 0
    available = count_frames(source) if whole else 0
    wanted = available if frames is None else min(frames, available)
    if wanted == 0:
        return 0
    copied = 0
    try:
        with (
            source.open("rb") as file,
            target.open("wb", buffering=0) as made,  # opened here, as PyAV would not close it after a failure
            av.open(_Head(file, whole), "r", format="mp4") as old,
            av.open(made, "w", format="mp4", options={"movflags": "faststart"}) as new,
        ):
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.dts is None or copied == wanted:
                    break
                packet.stream = stream
                new.mux(packet)
                copied += 1
    except (OSError, av.FFmpegError) as error:
        raise ScopeError(
            f"{target} could not be written ({error.strerror}); free some space or choose another folder."
        ) from error
    return copied


def count_frames(path: Path) -> int:
    """The number of whole frames in `path`, found without decoding; 0 if it holds no video."""
    whole = whole_bytes(path)
    if not whole:
        return 0
    try:
        with path.open("rb") as file, av.open(_Head(file, whole), "r", format="mp4") as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.FFmpegError, IndexError):
        return 0


def frames_at_rate(path: Path, fps: int) -> int:
    """How many frames a video has, by the times in it, which must be 1 / `fps` seconds apart.

    Raises:
        ScopeError: they are not, or the file is not a video.
    """
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            base = container.streams.video[0].time_base
            shown = [packet.pts for packet in container.demux(video=0) if packet.pts is not None and packet.size]
    except (OSError, av.FFmpegError, IndexError) as error:
        raise ScopeError(f"{path} is not a video that can be read ({error}); restore it from a copy.") from error
    if not shown or base is None:
        raise ScopeError(f"{path} has no frames; leave it out.")
    times = (np.sort(np.array(shown)) - min(shown)) * float(base * fps)
    if np.abs(times - np.arange(len(times))).max() > LATE:
        rate = (len(times) - 1) / (times[-1] / fps) if times[-1] else 0.0
        raise ScopeError(f"{path} has {rate:.4g} frames a second, or not evenly, where {fps} are needed; resample it.")
    return len(times)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video as uint8 `(H, W, 3)`.

    Raises:
        ScopeError: the file is not a video or is damaged.
    """
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (OSError, av.FFmpegError, IndexError) as error:
        raise ScopeError(f"{path} is not a video that can be played ({error}); record or export it again.") from error


def frames_at(path: Path, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames with these numbers, in rising order, as uint8 `(H, W, 3)`; long gaps are skipped over.

    Raises:
        ScopeError: the file is not a video, is damaged, or has no such frame.
    """
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            stream = container.streams.video[0]
            rate, base = stream.average_rate, stream.time_base
            if rate is None or base is None:
                raise ScopeError(f"{path} does not say how many frames a second it has; record or export it again.")
            frames, position = container.decode(stream), -1
            for number in numbers:
                if number > position + SEEK_BEYOND:
                    container.seek(int(number / rate / base), stream=stream)
                    frames = container.decode(stream)
                for frame in frames:
                    position = round((frame.pts or 0) * base * rate)
                    if position == number:
                        yield frame.to_ndarray(format="rgb24")
                        break
                else:
                    raise ScopeError(f"{path} has no frame {number}; record or export it again.")
    except (OSError, av.FFmpegError, IndexError) as error:
        raise ScopeError(f"{path} is not a video that can be played ({error}); record or export it again.") from error


class _Head(io.RawIOBase):
    """The first `size` bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._file.tell()
        return self._file.read(max(0, left if size < 0 else min(size, left)))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        return self._file.seek(base + offset)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
