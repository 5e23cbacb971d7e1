"""One pass of teacher forcing over a stretch of a clip: clean context, noisy targets, and who sees whom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scope_play.model.dit.layout import FrameLayout


@dataclass(frozen=True)
class Segment:
    """Targets `first .. end - 1` of a clip, predicted from context latents `begin .. end - 2`."""

    begin: int
    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.first < self.end:
            raise ValueError(f"a segment needs 0 <= begin < first < end, got {self}")

    @property
    def contexts(self) -> slice:
        return slice(self.begin, self.end - 1)

    @property
    def targets(self) -> slice:
        return slice(self.first, self.end)

    def layout(self, window: int) -> FrameLayout:
        """Contexts then targets, with the same sight as streaming: a latent sees itself and `window` before it.

        No target sees another one, and no context sees a target.
        """
        contexts, targets = torch.arange(self.begin, self.end - 1), torch.arange(self.first, self.end)
        index = torch.cat([contexts, targets])
        is_target = torch.arange(len(index)) >= len(contexts)
        age = index[:, None] - index[None, :]
        earlier = (age > 0) & (age <= window) & ~is_target[None, :]
        visible = earlier | torch.eye(len(index), dtype=torch.bool)
        previous = (index - self.begin - 1).clamp(min=0)
        return FrameLayout(positions=index - self.begin, action_index=index, visible=visible, previous=previous)


def whole(latents: int) -> Segment:
    """All of a clip after its start image."""
    return Segment(0, 1, latents)


def random_segment(latents: int, length: int, window: int, draw: torch.Generator) -> Segment:
    """`length` targets at a random place of a clip, with a whole window of context where the clip has one."""
    first = 1 + int(torch.randint(max(1, latents - length), (), generator=draw, device=draw.device))
    return Segment(max(0, first - window), first, min(latents, first + length))


def join(context: Tensor, targets: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Context (B, C, n, h, w) at timestep 0 and targets (B, C, m, h, w) at `sigma` (B, m): the pass's inputs."""
    zeros = torch.zeros(len(context), context.shape[2], device=context.device)
    return torch.cat([context, targets], 2), torch.cat([zeros, 1000 * sigma], 1)
