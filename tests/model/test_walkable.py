"""The table of where one can stand: measured from places, and what it does to others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.simulate import Simulator, _push_out
from scope_play.model.nano_codec.walkable import measure_walkable, snap_to_walkable
from scope_play.train.build import Options, load_nano_codec
from scope_play.train.data.states import PLACE, state_features
from scope_play.weights.catalog import nano_folder


@pytest.fixture(scope="module")
def around_a_disc() -> torch.Tensor:
    """Of a court whose middle, to a radius of 0.4, nobody has entered."""
    places = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return measure_walkable(places[places.norm(dim=-1) > 0.4], 64)


def test_what_stands_inside_goes_the_shortest_way_out(around_a_disc: torch.Tensor) -> None:
    angle = torch.linspace(0, 6, 40)
    way = torch.stack([angle.cos(), angle.sin()], -1)
    for depth in (0.05, 0.15, 0.25):
        out = snap_to_walkable((0.4 - depth) * way, around_a_disc)
        assert out.norm(dim=-1).sub(0.4).abs().max() < 0.015
        assert ((out * way).sum(-1) / out.norm(dim=-1)).min() > 0.99


def test_where_one_can_stand_nothing_moves(around_a_disc: torch.Tensor) -> None:
    places = torch.rand(3, 500, 4, 2, generator=torch.Generator().manual_seed(1)) * 1.9 - 0.95
    free = places.norm(dim=-1) > 0.43
    moved = snap_to_walkable(places, around_a_disc)
    assert moved.shape == places.shape
    assert torch.equal(moved[free], places[free])
    nowhere_bare = torch.full((8, 8), -1.0)
    assert torch.equal(snap_to_walkable(places, nowhere_bare), places)
    everywhere = torch.rand(50_000, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert (measure_walkable(everywhere, 16) < 0).all()


def test_nanos_pillars_are_solid_and_its_court_is_open() -> None:
    codec = load_nano_codec(Options(codec=nano_folder()))
    config = ArenaConfig()
    simulator = Simulator([0], config, varied=False)
    pillars = simulator.solids[: -simulator.targets]

    def depth(place: np.ndarray) -> float:
        outs = [_push_out(place[0], place[1], solid, config.rules.body_radius) for solid in pillars]
        return max(float(np.hypot(x - place[0], y - place[1])) for x, y in outs)

    places = np.random.default_rng(0).uniform(0.3, 7.7, (800, 2))
    inside = places[[depth(place) > 0.1 for place in places]]
    assert len(inside) > 50
    out = 4 + 4 * snap_to_walkable(torch.from_numpy(inside / 4 - 1), codec.ground).numpy()
    assert max(depth(place) for place in out) < 0.05
    stood = torch.from_numpy(state_features(sample_states(300, 80, 77)[0])[..., list(PLACE)]).flatten(0, 1)
    aside = 4 * (snap_to_walkable(stood, codec.ground) - stood).norm(dim=-1)
    assert (aside > 0.02).float().mean() < 0.002
