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


class FrameTransfer(Protocol):
    """Used in this order for every chunk: `begin`, `decode`, `take`. What lies between the last two may overlap.

    `commit` comes after `decode`, before or after `take`.
    """

    def begin(self) -> None:
        """The chunk's clock starts."""

    def decode(self, latents: Tensor, decode: Decode) -> None:
        """Start `decode`, which makes a video (B, 3, n, H, W) in [-1, 1] of the latents."""

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

    def __init__(self) -> None:
        self.began = 0.0
        self.made: tuple[np.ndarray, dict[str, float]] | None = None

    def begin(self) -> None:
        self.began = time.perf_counter()

    def decode(self, latents: Tensor, decode: Decode) -> None:
        denoised = time.perf_counter()
        frames = to_levels(decode(latents)).numpy()
        timings = {"denoise": denoised - self.began, "decode": time.perf_counter() - denoised}
        self.made = frames, timings

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


class CudaTransfer:
    """Decodes on a stream of its own and copies into pinned memory; the host waits once, in `take`.

    The commit may run beside it, and the host draws the next noise meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side = torch.cuda.Stream(device)
        self.began, self.denoised, self.decoded = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self.committing, self.committed = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.untimed: dict[str, float] | None = None
        """The timings of the last commit, until its seconds are known."""
        self.pinned: Tensor | None = None
        self.latents: Tensor | None = None

    def begin(self) -> None:
        self.began.record(torch.cuda.current_stream(self.device))

    def decode(self, latents: Tensor, decode: Decode) -> None:
        main = torch.cuda.current_stream(self.device)
        self.denoised.record(main)
        self.side.wait_stream(main)
        self.latents = latents  # its memory must not be given to others while the side stream reads it
        with torch.cuda.stream(self.side):
            levels = to_levels(decode(latents))
            if self.pinned is None or self.pinned.shape != levels.shape:
                self.pinned = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True)
            self.pinned.copy_(levels, non_blocking=True)
            self.decoded.record(self.side)

    def take(self) -> tuple[np.ndarray, dict[str, float]]:
        if self.pinned is None:
            raise RuntimeError("take() without a decode() before it")
        self.decoded.synchronize()
        self.latents = None
        if self.committed.query():
            self._time_commit()
        timings = {
            "denoise": self.began.elapsed_time(self.denoised) / 1000,
            "decode": self.denoised.elapsed_time(self.decoded) / 1000,
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
