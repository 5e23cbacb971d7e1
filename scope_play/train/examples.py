"""What a world model learns from: clips of latents, and micro-batches made of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scope_play.train.segments import Segment


@dataclass(frozen=True)
class LatentClips:
    """latents (B, C, F, h, w), buttons (B, N, 6), sticks (B, N, 4)."""

    latents: Tensor
    buttons: Tensor
    sticks: Tensor

    def split(self, size: int) -> list[LatentClips]:
        parts = zip(self.latents.split(size), self.buttons.split(size), self.sticks.split(size), strict=True)
        return [LatentClips(*part) for part in parts]


@dataclass(frozen=True)
class Example:
    """One micro-batch ready for the network: inputs of a pass over `segment`, and the velocity it should give."""

    clips: LatentClips
    segment: Segment
    context: Tensor
    noisy: Tensor
    sigma: Tensor
    velocity: Tensor
    keep: Tensor | None = None
    trust: Tensor | None = None
