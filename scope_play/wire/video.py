"""Pictures as bytes and back, one in and one out: nothing is held back, and only keys stand for themselves."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from scope_play.errors import ScopeError

QUALITIES = (23, 28, 33, 38)
"""x264's `crf`, the best first; each step halves the bytes, about."""

JPEG_QUALITIES = (85, 70, 50, 30)

H264_NAME = "avc1.640028"
"""What `h264` is for a browser: High profile up to 1920x1080."""


class Encoder(Protocol):
    def encode(self, frame: np.ndarray, key: bool) -> tuple[bytes, bool]:
        """uint8 (H, W, 3) as bytes, and whether they stand for themselves."""


class Decoder(Protocol):
    def decode(self, payload: bytes) -> np.ndarray:
        """uint8 (H, W, 3). Raises ScopeError if the payload is damaged."""


def make_encoder(codec: str, height: int, width: int, fps: int, quality: int = 0) -> Encoder:
    """`quality` counts down from 0, the best; lossless and raw have one only."""
    if codec == "raw":
        return _Raw(height, width)
    if codec == "jpeg":
        return _Jpeg(JPEG_QUALITIES[quality])
    return _X264Encoder(codec == "lossless", height, width, fps, QUALITIES[quality])


def make_decoder(codec: str, height: int, width: int) -> Decoder:
    if codec == "raw":
        return _Raw(height, width)
    return _Jpeg(JPEG_QUALITIES[0]) if codec == "jpeg" else _X264Decoder()


class _Raw:
    def __init__(self, height: int, width: int) -> None:
        self._shape = (height, width, 3)

    def encode(self, frame: np.ndarray, key: bool) -> tuple[bytes, bool]:
        return frame.tobytes(), True

    def decode(self, payload: bytes) -> np.ndarray:
        try:
            return np.frombuffer(payload, np.uint8).reshape(self._shape)
        except ValueError as error:
            raise ScopeError(f"a raw picture has {len(payload)} bytes, not {self._shape}; connect again") from error


class _Jpeg:
    def __init__(self, quality: int) -> None:
        self._quality = quality

    def encode(self, frame: np.ndarray, key: bool) -> tuple[bytes, bool]:
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(frame).save(out, "JPEG", quality=self._quality)
        return out.getvalue(), True

    def decode(self, payload: bytes) -> np.ndarray:
        from scope_play.images import read_image

        return read_image(payload)


class _X264Encoder:
    """`zerolatency` has no B-frames and no lookahead; one thread, as the other cores belong to the model."""

    def __init__(self, lossless: bool, height: int, width: int, fps: int, crf: int) -> None:
        import av

        even = height % 2 == 0 and width % 2 == 0
        self._format = "rgb24" if lossless else "yuv420p" if even else "yuv444p"
        context: Any = av.CodecContext.create("libx264rgb" if lossless else "libx264", "w")
        context.height, context.width, context.pix_fmt = height, width, self._format
        context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
        context.thread_count = 1
        context.gop_size = 1 << 20
        options = {"preset": "ultrafast", "qp": "0"} if lossless else {"preset": "veryfast", "crf": str(crf)}
        context.options = {**options, "tune": "zerolatency", "forced-idr": "1", "x264-params": "scenecut=0"}
        self._context = context
        self._number = 0

    def encode(self, frame: np.ndarray, key: bool) -> tuple[bytes, bool]:
        import av
        from av.video.frame import PictureType

        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=self._format)
        picture.pts = self._number
        picture.pict_type = PictureType.I if key else PictureType.NONE
        self._number += 1
        packets = self._context.encode(picture)
        return b"".join(map(bytes, packets)), any(packet.is_keyframe for packet in packets)


class _X264Decoder:
    def __init__(self) -> None:
        import av

        self._context: Any = av.CodecContext.create("h264", "r")
        self._context.thread_count = 1  # several hold pictures back

    def decode(self, payload: bytes) -> np.ndarray:
        import av

        try:
            (picture,) = self._context.decode(av.Packet(payload))
            return picture.to_ndarray(format="rgb24")
        except (av.FFmpegError, ValueError) as error:
            raise ScopeError(f"a picture is damaged ({error}); connect again") from error
