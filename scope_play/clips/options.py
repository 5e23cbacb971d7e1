"""What clips are made from and how, and what makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scope_play.sampling.clip import Progress

DEFAULT_FRAMES = 81


@dataclass(frozen=True)
class ClipOptions:
    """What all clips of a run share. None means the model's own default.

    `frames` is rounded down to 4k+1, `size` (height, width) up to multiples of 32. `offload` is one of "auto", "none",
    "blocks", "disk"; it, wan and lora as in `World.load`.
    """

    frames: int | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    shift: float | None = None
    guidance: float | None = None
    action_guidance: float | None = None
    seed: int = 0
    negative_prompt: str | None = None
    device: str | None = None
    precision: str | None = None
    cache: str | None = None
    decoder: str | None = None
    offload: str = "auto"
    wan: str | None = None
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipInputs:
    """What one clip is made from: a start image, uint8 RGB, action rows (N, 10), and a prompt; each may be None."""

    image: np.ndarray | None = None
    rows: np.ndarray | None = None
    prompt: str | None = None


class ClipMaker(Protocol):
    """A loaded model, ready to make clips."""

    def make(self, inputs: ClipInputs, progress: Progress) -> Iterator[np.ndarray]:
        """Yields uint8 frames (n, H, W, 3) as they are made, so that a long clip need not fit into memory."""

    def settings(self) -> dict[str, Any]:
        """Everything but the inputs that the frames depend on, as JSON values."""
