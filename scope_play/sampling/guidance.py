"""Guidance in streaming: which passes the scales ask for, laid out along the batch axis."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scope_play.sampling.clip import Predictions, combine


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
