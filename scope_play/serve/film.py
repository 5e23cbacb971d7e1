"""One game's encoder: a thread that turns frames into pictures for whoever watches, and shown chunks into a recording.

Its jobs run in order, so what follows a rewind never overtakes what came before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from scope_play.wire.header import FRAME, STILL, Picture
from scope_play.wire.video import QUALITIES, make_encoder

if TYPE_CHECKING:
    import numpy as np

    from scope_play.session.interfaces import WorldSpec

CALM_SECONDS = 4.0
"""Between two changes of quality: each costs a key picture."""


class Film:
    """`codec` may be changed at any time; the next picture is a key then."""

    def __init__(self, spec: WorldSpec) -> None:
        self._spec = spec
        self._codec = "raw"
        self._quality = 0
        self._changed_at = 0.0
        self._encoder: Any = None
        self._thread = ThreadPoolExecutor(1, "film")

    @property
    def quality(self) -> int:
        """0 is the best."""
        return self._quality

    @property
    def codec(self) -> str:
        return self._codec

    def run(self, job: Callable[[], Any]) -> Future[Any]:
        """Run something in this thread, after what was asked before."""
        return self._thread.submit(job)

    def use(self, codec: str) -> None:
        """Somebody watches anew, or in another codec."""
        self._thread.submit(self._use, codec, self._quality)

    def strain(self, backlog: float) -> None:
        """Pictures wait `backlog` seconds for the line: a coarser picture if that is too long, a better one if none
        does."""
        now = time.perf_counter()
        step = 1 if backlog > 0.15 else -1 if backlog < 0.01 and now - self._changed_at > 4 * CALM_SECONDS else 0
        quality = min(max(self._quality + step, 0), len(QUALITIES) - 1)
        if quality != self._quality and now - self._changed_at > CALM_SECONDS and self._codec in ("h264", "jpeg"):
            self._changed_at = now
            self._quality = quality
            self._thread.submit(self._use, self._codec, quality)

    def chunk(self, frames: np.ndarray, picture: dict[str, Any], out: Callable[[Picture], None]) -> None:
        """Frames uint8 (n, H, W, 3), each out as soon as it is encoded; `picture` is what else a `Picture` holds."""
        for part, frame in enumerate(frames):
            out(self._picture(frame, False, kind=FRAME, part=part, **picture))

    def still(self, frame: np.ndarray, chunk: int) -> Picture:
        return self._picture(frame, True, kind=STILL, part=0, chunk=chunk)

    def close(self) -> None:
        """Ends once its jobs are done."""
        self._thread.shutdown(wait=False)

    def _use(self, codec: str, quality: int) -> None:
        spec = self._spec
        self._codec = codec
        self._encoder = make_encoder(codec, spec.height, spec.width, spec.fps, quality)

    def _picture(self, frame: np.ndarray, key: bool, **rest: Any) -> Picture:
        began = time.perf_counter()
        if self._encoder is None:
            self._use(self._codec, self._quality)
        payload, is_key = self._encoder.encode(frame, key)
        took = 1000 * (time.perf_counter() - began)
        return Picture(codec=self._codec, key=is_key, payload=payload, encode=took, **rest)
