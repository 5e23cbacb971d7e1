"""Clips of latents with all that a network of SCOPE's kind is told about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipBatch:
    """latents (B, C, F, h, w), the first of them the start image's; buttons (B, N, 6) and sticks (B, N, 4), one row a
    video frame; context (B, L, D), the prompts' embeddings, where the network takes text.

    keep_actions (B,): 0 where a sample's actions are dropped.
    """

    latents: Tensor
    buttons: Tensor
    sticks: Tensor
    context: Tensor | None = None
    keep_actions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def first(self) -> Tensor:
        """(B, C, 1, h, w)."""
        return self.latents[:, :, :1]

    def _mapped(self, change: Any) -> ClipBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})

    def to(self, device: torch.device) -> ClipBatch:
        return self._mapped(lambda tensor: tensor.to(device))

    def part(self, which: slice) -> ClipBatch:
        return self._mapped(lambda tensor: tensor[which])

    def split(self, size: int) -> Iterator[ClipBatch]:
        for begin in range(0, len(self), size):
            yield self.part(slice(begin, begin + size))

    def dropped(self, text: float, actions: float, no_text: Tensor | None, draw: torch.Generator) -> ClipBatch:
        """Some samples without their prompt, which becomes `no_text` (1, L, D), some without their actions: what
        guidance steers away from has to be learned too."""
        batch, device = len(self), self.latents.device
        lost_text, lost_actions = (torch.rand(batch, generator=draw, device=draw.device) < p for p in (text, actions))
        context = self.context
        if context is not None and no_text is not None:
            context = torch.where(lost_text.to(device)[:, None, None], no_text.to(context), context)
        return replace(self, context=context, keep_actions=(~lost_actions).float().to(device))
