"""Which latent frame sees which, and where each stands in time: the plan of one forward pass.

Everything here is at the granularity of latent frames; the networks widen it to tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameLayout:
    """The F latent frames of one forward pass.

    positions: (F,) time position of each frame for RoPE.
    action_index: (F,) which latent's action window conditions each frame.
    timestep_index: (F,) which of the K timesteps each frame carries; None when K is 1 or F.
    visible: (F, F) bool, True where the row's frame may attend to the column's; None lets all see all.
    previous: (F,) which frame of the pass is the clean latent before each; for networks that predict from it.
    """

    positions: Tensor
    action_index: Tensor
    timestep_index: Tensor | None = None
    visible: Tensor | None = None
    previous: Tensor | None = None

    def to(self, device: torch.device) -> FrameLayout:
        return FrameLayout(
            positions=self.positions.to(device),
            action_index=self.action_index.to(device),
            timestep_index=None if self.timestep_index is None else self.timestep_index.to(device),
            visible=None if self.visible is None else self.visible.to(device),
            previous=None if self.previous is None else self.previous.to(device),
        )


def chunk_starts(frames: int, chunk: int) -> Tensor:
    """(frames,) first latent of the chunk each latent belongs to. Latent 0, the start image, is a chunk of its own."""
    index = torch.arange(frames)
    return torch.where(index == 0, 0, (index - 1) // chunk * chunk + 1)


def bidirectional(frames: int) -> FrameLayout:
    """All frames see all: offline generation with the released weights."""
    index = torch.arange(frames)
    return FrameLayout(positions=index, action_index=index)


def block_causal(frames: int, *, chunk: int = 1, window: int | None = None) -> FrameLayout:
    """Each chunk sees itself and the `window` latents before it.

    This is what streaming computes with its caches, written as one mask: the two must agree to rounding.
    """
    index = torch.arange(frames)
    start = chunk_starts(frames, chunk)
    key = index[None, :]
    visible = key < start[:, None]
    if window is not None:
        visible &= key >= start[:, None] - window
    visible |= start[:, None] == start[None, :]
    return FrameLayout(positions=index, action_index=index, visible=visible, previous=(start - 1).clamp(min=0))
