"""What a method of training is: which networks it needs, and the losses of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from scope_play.train.methods.batch import ClipBatch

STUDENT, TEACHER, CRITIC = "student", "teacher", "critic"


class Method(Protocol):
    """A method's own settings are its attributes; what changes from step to step are the networks alone."""

    @property
    def roles(self) -> Mapping[str, bool]:
        """The networks it needs by role, and whether each is trained."""
        ...

    def losses(self, networks: Mapping[str, nn.Module], batch: ClipBatch, step: int, draw: torch.Generator) -> Losses:
        """Of one micro-batch. `draw` decides everything random; the same (step, draw) gives the same losses."""
        ...


@dataclass(frozen=True)
class Losses:
    """By role the loss that its network learns from in this step, and figures for the log."""

    by_role: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor]
