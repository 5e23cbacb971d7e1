"""What goes on in a moment is either going on or not: between the two there is nothing to draw.

A world predicts a mean, and where it cannot tell whether a target was hit, the mean is a target that has half fallen; a
finder that is shown a street finds half a blade in it. So what is drawn is brought to what can be, and what is begun
from a picture that shows no such place begins at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LIKELY = 0.5
"""A flag above this is up."""


@dataclass(frozen=True)
class EventConfig:
    """Columns of a frame's features.

    passing: those that are 0 when nothing goes on. flags: pairs of a flag among them and a column that is 0 unless the
    flag is up. choices: those that are 0 or 1. targets: the first of four columns each, which are the time left as a
    share of all, a flag, how far it has fallen and how much of its rise is left; `fall` and `rise` are the shares of
    the time that these two take.
    """

    passing: tuple[int, ...]
    flags: tuple[tuple[int, int], ...]
    choices: tuple[int, ...]
    targets: tuple[int, ...]
    fall: float
    rise: float

    @property
    def columns(self) -> set[int]:
        """All that it names."""
        pairs = {column for pair in self.flags for column in pair}
        four = {first + i for first in self.targets for i in range(4)}
        return {*self.passing, *self.choices, *pairs, *four}


def decided(features: Tensor, events: EventConfig) -> Tensor:
    """Features (..., F) whose targets stand, lie, fall or rise. Those of a moment that can be stay as they are."""
    features = features.clone()
    for first in events.targets:
        left, flag, fallen, rising = features[..., first : first + 4].unbind(-1)
        down = flag > LIKELY
        # Only near its ends does the time left say that a target is on its way.
        fallen = torch.where(left < 1 - 1.5 * events.fall, torch.ones_like(fallen), fallen.clamp(0, 1))
        rising = torch.where(left > 1.5 * events.rise, torch.ones_like(rising), rising.clamp(0, 1))
        whole = torch.stack([left, torch.ones_like(flag), fallen, rising], -1)
        features[..., first : first + 4] = torch.where(down[..., None], whole, torch.zeros_like(whole))
    return features


def begun(features: Tensor, events: EventConfig, resting: bool = False) -> Tensor:
    """Features (..., F) that a game can begin with: what is not clearly going on is not; if `resting`, nothing is."""
    features = decided(features, events)
    choices = list(events.choices)
    features[..., choices] = (features[..., choices] > LIKELY).to(features.dtype)
    for flag, other in events.flags:
        up = (features[..., flag] > LIKELY).to(features.dtype)
        features[..., flag], features[..., other] = up, features[..., other] * up
    if resting:
        features[..., list(events.passing)] = 0
    return features
