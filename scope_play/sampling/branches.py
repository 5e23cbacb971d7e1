"""The passes that guidance asks for, side by side, and the action windows that go into them."""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV, join_prompts
from scope_play.sampling.guidance import guidance_branches, guide, keep_mask
from scope_play.sampling.stream import StreamConfig


class Branches:
    """The passes that guidance asks for, laid out along the batch axis."""

    def __init__(self, config: StreamConfig, batch: int, device: torch.device) -> None:
        self.scales = config.guidance, config.action_guidance
        self.branches = guidance_branches(*self.scales)
        self.count = len(self.branches)
        self.keep = keep_mask(self.branches, batch, device)
        self.text: list[TextKV] | None = None

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None:
        if text is None:
            self.text = None
            return
        if negative is None and not all(branch.prompt for branch in self.branches):
            raise ScopeError("text guidance needs a negative prompt; give one or set guidance to 1")
        per_branch = [text if branch.prompt or negative is None else negative for branch in self.branches]
        self.text = join_prompts(per_branch)

    def widen(self, x: Tensor) -> Tensor:
        """Repeat a batch for every branch."""
        return x if self.count == 1 else x.repeat(self.count, *([1] * (x.dim() - 1)))

    def guide(self, velocities: Tensor) -> Tensor:
        return guide(velocities, *self.scales)

    def windows(self, windows: ActionWindows) -> ActionWindows:
        sticks = None if windows.sticks is None else self.widen(windows.sticks)
        buttons = None if windows.buttons is None else self.widen(windows.buttons)
        return ActionWindows(sticks, buttons, self.keep)


def join_windows(first: ActionWindows, second: ActionWindows) -> ActionWindows:
    """Windows of some latents followed by windows of others."""

    def cat(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b], 1)

    return ActionWindows(cat(first.sticks, second.sticks), cat(first.buttons, second.buttons), second.keep)


def opening_windows(windows: ActionWindows) -> ActionWindows:
    """Windows of the start image: it sees row 0 alone, which is the oldest row the first chunk sees."""

    def fill(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:, :1, :1].expand(-1, -1, x.shape[2], -1)

    return ActionWindows(fill(windows.sticks), fill(windows.buttons), windows.keep)
