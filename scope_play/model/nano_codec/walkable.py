"""Where one can stand: a table of distances, measured where players stood in training.

A world errs by a hair, and beside a pillar it then is a hair inside it, which no training ever showed: it knows no way
out, and nobody can draw what is seen from there. So places where nobody stood are moved to the nearest where somebody
did.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 2
HOLE = 3


def snap_to_walkable(places: Tensor, ground: Tensor) -> Tensor:
    """Places (..., 2) with x and y in [-1, 1] -> the nearest on the ground.

    ground (nodes of y, nodes of x): the distance to the nearest place where one can stand, negative where one can, at
    nodes that are evenly spread from -1 to 1.
    """
    x, y = places.float().flatten(0, -2).unbind(-1)
    reach = 1 / (len(ground) - 1)
    aside = reach * torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], device=ground.device)
    for _ in range(STEPS):
        looked = torch.stack([x, y], -1)[:, None] + aside
        here, right, left, down, up = _at(looked, ground).unbind(1)
        slope = F.normalize(torch.stack([right - left, down - up], -1), dim=-1)
        depth = here.clamp_min(0)
        x, y = x - depth * slope[:, 0], y - depth * slope[:, 1]
    return torch.stack([x, y], -1).view(places.shape).to(places.dtype)


def _at(places: Tensor, ground: Tensor) -> Tensor:
    """The table between its nodes, (N, looked, 2) -> (N, looked)."""
    table = ground.float()[None, None]
    return F.grid_sample(table, places[None], mode="bilinear", padding_mode="border", align_corners=True)[0, 0]


def measure_walkable(stood: Tensor, nodes: int) -> Tensor:
    """Places where somebody stood (N, 2), densely -> the table (nodes, nodes).

    Gaps less than HOLE nodes deep are taken for places where nobody happened to stand.
    """
    line = torch.linspace(-1, 1, nodes)
    spacing = 2 / (nodes - 1)
    # Two of a table's cells hold no more than places in them do: one of each is enough.
    fine = torch.unique((stood / (spacing / 8)).round().long(), dim=0).float() * (spacing / 8)
    node = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).flatten(0, 1)
    away = torch.cat([torch.cdist(some, fine).amin(1) for some in node.split(256)])
    deep = node[away > HOLE * spacing]
    if len(deep) == 0:
        return torch.full((nodes, nodes), -1.0)
    within = torch.cat([torch.cdist(some, deep).amin(1) for some in node.split(1024)]) < 2 * HOLE * spacing
    bare = within & (away > spacing / 2)
    inside = torch.cat([torch.cdist(some, node[bare]).amin(1) for some in node.split(1024)])
    return torch.where(bare, away, spacing / 2 - inside).view(nodes, nodes)
