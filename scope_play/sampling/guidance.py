"""Guidance: which passes its scales ask for, laid out along the batch axis when streaming, and what they combine to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV, join_prompts
from scope_play.sampling.stream_config import StreamConfig


class Predictions(NamedTuple):
    """Velocities with all conditions, with the negative prompt, and without actions; None where no pass was needed."""

    full: Tensor
    negative: Tensor | None
    actionless: Tensor | None


def combine(predictions: Predictions, guidance: float, action_guidance: float) -> Tensor:
    """Guided velocity: negative + guidance * (full - negative), plus what stronger actions add.

    With no text guidance the second term makes it actionless + action_guidance * (full - actionless). With both, the
    two differences start from the same full pass, so three passes do the work of four.
    """
    full, negative, actionless = predictions
    velocity = full if negative is None else negative + guidance * (full - negative)
    return velocity if actionless is None else velocity + (action_guidance - 1) * (full - actionless)


class Branch(NamedTuple):
    """One pass: with the prompt or the negative prompt, with or without actions."""

    prompt: bool
    actions: bool


def guidance_branches(guidance: float, action_guidance: float) -> list[Branch]:
    """The passes for the two scales, the full one first; a scale of 1 is off and saves its pass."""
    branches = [Branch(True, True)]
    if guidance != 1:
        branches.append(Branch(False, True))
    if action_guidance != 1:
        branches.append(Branch(True, False))
    return branches


def guide(velocities: Tensor, guidance: float, action_guidance: float) -> Tensor:
    """Velocities (branches * B, ...), stacked branch by branch -> the guided velocity (B, ...)."""
    branches = guidance_branches(guidance, action_guidance)
    full, *others = velocities.unflatten(0, (len(branches), -1))
    negative = others.pop(0) if guidance != 1 else None
    actionless = others.pop(0) if action_guidance != 1 else None
    return combine(Predictions(full, negative, actionless), guidance, action_guidance)


def keep_mask(branches: list[Branch], batch: int, device: torch.device) -> Tensor | None:
    """(branches * B,) 1 where a pass has actions, 0 where not; None when all have them."""
    if all(branch.actions for branch in branches):
        return None
    return torch.tensor([float(branch.actions) for branch in branches], device=device).repeat_interleave(batch)


class Branches:
    """The passes that guidance asks for, laid out along the batch axis."""

    def __init__(self, config: StreamConfig, batch: int, device: torch.device) -> None:
        self.batch = batch
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
