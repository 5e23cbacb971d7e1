"""What travels in binary: a picture to the player, and rows to the server, each behind a header of fixed size.

All numbers are little-endian. A picture is `<4B I d 5f H 2x` and its bytes; rows are `<B 3x I d` and float32 values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from scope_play.actions import ROW_WIDTH, check_rows
from scope_play.errors import ScopeError

FRAME, STILL, ROWS = 1, 2, 3
"""Kinds: a frame of a chunk; the picture that a game stands on; rows."""

CODECS = ("h264", "jpeg", "lossless", "raw")
"""By their numbers. h264: Annex B; lossless: the same in RGB at quantiser 0; raw: RGB, 8 bits."""

_PICTURE = struct.Struct("<4BId5fH2x")
_ROWS = struct.Struct("<B3xId")


@dataclass(frozen=True)
class Picture:
    """One picture. `key` needs no older one; `part` counts in the chunk, `chunk` from 1 (of a still, the chunk that it
    ends). row_end: the player's clock, ms, up to which the chunk's rows reach. The rest is ms of the server: waited
    for the model, denoising, decoding, encoding this frame, and what of the model's time one chunk takes in all.
    prompt: place in the newest `messages.Prompts` of the one that the chunk was made under."""

    kind: int
    codec: str
    key: bool
    part: int
    chunk: int
    payload: bytes
    row_end: float = 0.0
    queued: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    work: float = 0.0
    prompt: int = 0

    def pack(self) -> bytes:
        head = (self.kind, CODECS.index(self.codec), self.key, self.part, self.chunk, self.row_end)
        times = (self.queued, self.denoise, self.decode, self.encode, self.work)
        return _PICTURE.pack(*head, *times, self.prompt) + self.payload


def read_picture(data: bytes) -> Picture:
    """Raises ScopeError for what no server of this version sends."""
    if len(data) < _PICTURE.size:
        raise ScopeError(f"a picture of {len(data)} bytes is too short; update the app or the server")
    kind, codec, key, part, chunk, row_end, *rest = _PICTURE.unpack_from(data)
    if kind not in (FRAME, STILL) or codec >= len(CODECS):
        raise ScopeError(f"a picture of kind {kind} and codec {codec} is not known; update the app or the server")
    return Picture(kind, CODECS[codec], bool(key), part, chunk, data[_PICTURE.size :], row_end, *rest)


def pack_rows(n: int, now: float, rows: np.ndarray) -> bytes:
    """Ask for chunk `n` of these rows, float32 (frames_per_chunk, 10), which reach up to `now` (ms)."""
    return _ROWS.pack(ROWS, n, now) + np.ascontiguousarray(rows, np.dtype("<f4")).tobytes()


def read_rows(data: bytes, frames: int) -> tuple[int, float, np.ndarray]:
    """(n, now, rows). Raises ScopeError unless they are `frames` rows of buttons in {0, 1} and sticks in [-1, 1]."""
    wanted = _ROWS.size + 4 * frames * ROW_WIDTH
    if len(data) != wanted or data[0] != ROWS:
        raise ScopeError(f"{len(data)} bytes are not {frames} rows, which are {wanted}; send whole chunks")
    _, n, now = _ROWS.unpack_from(data)
    rows = np.frombuffer(data, np.dtype("<f4"), offset=_ROWS.size).reshape(frames, ROW_WIDTH).astype(np.float32)
    check_rows(rows, f"the rows of chunk {n}")
    return n, now, rows
