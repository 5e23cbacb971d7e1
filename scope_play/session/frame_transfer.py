"""From the latents of a chunk to frames in the caller's hands: at once on a CPU, beside the next work on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scope_play.images import to_levels

Decode = Callable[[Tensor], Tensor]
FIRST = -1
"""The priority of a CUDA stream that goes before the others, whose is 0."""


class FrameTransfer(Protocol):
    """Used in this order for every chunk: `begin`, `denoised`, `decode`, `take`. What lies between the last two may
    overlap.

    `commit` comes after `decode`, before or after `take`, and so may `begin` and `denoised` of the chunk after it.
    """

    overlaps: bool
    """Whether what is asked for between `decode` and `take` runs beside the decoding."""

    def begin(self) -> None:
        """The chunk's clock starts."""

    def denoised(self) -> None:
        """All work on the chunk's latents has been asked for."""

    def decode(self, latents: Tensor, decode: Decode) -> None:
        """Start `decode`, which makes a video (B, 3, n, H, W) in [-1, 1] of the latents."""

    def await_denoised(self) -> None:
        """Wait until the latents given to `decode` are there."""

    def take(self) -> tuple[np.ndarray, dict[str, float]]:
        """uint8 frames (B, n, H, W, 3), and the seconds of "denoise" and "decode"."""

    def commit(self, commit: Callable[[], None], timings: dict[str, float]) -> None:
        """Begin `commit`; its seconds come into `timings` as "commit", at the latest with `finish` or the next `take`.

        The host need not wait: what it does next runs beside.
        """

    def finish(self) -> None:
        """Wait until the last `commit` is through."""


def to_device(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """x from the host, on `device` in `dtype`, without waiting for what `device` is still doing."""
    x = x.to(dtype)
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def make_transfer(device: torch.device) -> FrameTransfer:
    return CudaTransfer(device) if device.type == "cuda" else HostTransfer()


class HostTransfer:
    """Everything happens where it stands."""

    overlaps = False

    def __init__(self) -> None:
        self.began = self.latents_at = 0.0
        self.made: tuple[np.ndarray, dict[str, float]] | None = None

    def begin(self) -> None:
        self.began = time.perf_counter()

    def denoised(self) -> None:
        self.latents_at = time.perf_counter()

    def decode(self, latents: Tensor, decode: Decode) -> None:
        began = time.perf_counter()
        frames = to_levels(decode(latents)).numpy()
        timings = {"denoise": self.latents_at - self.began, "decode": time.perf_counter() - began}
        self.made = frames, timings

    def await_denoised(self) -> None:
        pass

    def take(self) -> tuple[np.ndarray, dict[str, float]]:
        if self.made is None:
            raise RuntimeError("take() without a decode() before it")
        made, self.made = self.made, None
        return made

    def commit(self, commit: Callable[[], None], timings: dict[str, float]) -> None:
        began = time.perf_counter()
        commit()
        timings["commit"] = time.perf_counter() - began

    def finish(self) -> None:
        pass


class _Clock:
    """Events of one chunk's work; `decoding` is its first on the side stream."""

    def __init__(self) -> None:
        events = (torch.cuda.Event(enable_timing=True) for _ in range(4))
        self.began, self.denoised, self.decoding, self.decoded = events


class CudaTransfer:
    """Decodes on a stream of its own and copies into pinned memory; the host waits once, in `take`.

    The commit and the next chunk's denoising may run beside it, and the host draws the next noise meanwhile. The
    decoding has priority: somebody waits for its frames.
    """

    overlaps = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side = torch.cuda.Stream(device, priority=FIRST)
        self.next: _Clock | None = None
        self.decoding: _Clock | None = None
        self.committing, self.committed = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.untimed: dict[str, float] | None = None
        """The timings of the last commit, until its seconds are known."""
        self.pinned: Tensor | None = None
        self.latents: Tensor | None = None

    def begin(self) -> None:
        self.next = _Clock()
        self.next.began.record(torch.cuda.current_stream(self.device))

    def denoised(self) -> None:
        if self.next is not None:
            self.next.denoised.record(torch.cuda.current_stream(self.device))

    def decode(self, latents: Tensor, decode: Decode) -> None:
        if self.next is None:
            raise RuntimeError("decode() without a begin() before it")
        clock, self.next = self.next, None
        self.side.wait_stream(torch.cuda.current_stream(self.device))
        self.latents = latents  # its memory must not be given to others while the side stream reads it
        with torch.cuda.stream(self.side):
            clock.decoding.record(self.side)
            levels = to_levels(decode(latents))
            if self.pinned is None or self.pinned.shape != levels.shape:
                self.pinned = pinned(levels.shape)
            self.pinned.copy_(levels, non_blocking=True)
            clock.decoded.record(self.side)
        self.decoding = clock

    def await_denoised(self) -> None:
        if self.decoding is not None:
            self.decoding.denoised.synchronize()

    def take(self) -> tuple[np.ndarray, dict[str, float]]:
        if self.pinned is None or self.decoding is None:
            raise RuntimeError("take() without a decode() before it")
        clock, self.decoding = self.decoding, None
        clock.decoded.synchronize()
        self.latents = None
        if self.committed.query():
            self._time_commit()
        timings = {
            "denoise": clock.began.elapsed_time(clock.denoised) / 1000,
            "decode": clock.decoding.elapsed_time(clock.decoded) / 1000,
        }
        return self.pinned.numpy().copy(), timings

    def commit(self, commit: Callable[[], None], timings: dict[str, float]) -> None:
        main = torch.cuda.current_stream(self.device)
        self.committing.record(main)
        commit()
        self.committed.record(main)
        self.untimed = timings

    def finish(self) -> None:
        self.committed.synchronize()
        self._time_commit()

    def _time_commit(self) -> None:
        if self.untimed is not None:
            self.untimed["commit"] = self.committing.elapsed_time(self.committed) / 1000
            self.untimed = None


def pinned(shape: torch.Size) -> Tensor:
    """Memory of the host that a GPU writes without the host's help."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
