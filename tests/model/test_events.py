"""What passes is drawn as going on or not; true moments are left as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scope_play.arena.behaviour import sample_states
from scope_play.model.nano_codec.codec import NanoCodecConfig
from scope_play.model.nano_codec.events import EventConfig, begun, decided
from scope_play.records import read_record
from scope_play.train.data.states import FEATURES, event_config, state_features

EVENTS = event_config()


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    """Of every frame of games in which targets fall, lie and rise."""
    states, _ = sample_states(48, 200, 3)
    known = torch.from_numpy(state_features(states.reshape(-1)))
    assert (known[:, [first + 2 for first in EVENTS.targets]] % 1 > 0).any()
    assert (known[:, [first + 3 for first in EVENTS.targets]] % 1 > 0).any()
    return known


def test_true_moments_stay_as_they_are(features: torch.Tensor) -> None:
    assert torch.equal(decided(features, EVENTS), features)


def test_a_target_that_has_half_fallen_stands_or_lies() -> None:
    half = torch.zeros(2, FEATURES)
    first = EVENTS.targets[1]
    half[0, first : first + 4] = torch.tensor([0.45, 0.45, 0.45, 0.45])
    half[1, first : first + 4] = torch.tensor([0.55, 0.55, 0.45, 0.45])
    stands, lies = decided(half, EVENTS)[:, first : first + 4]
    assert stands.tolist() == [0, 0, 0, 0]
    assert lies.tolist() == pytest.approx([0.55, 1, 1, 1])
    assert half[0, first] == 0.45


def test_a_game_may_begin_while_something_is_going_on(features: torch.Tensor) -> None:
    torch.testing.assert_close(begun(features, EVENTS), features)


def test_a_game_does_not_begin_with_half_a_blade() -> None:
    some = torch.zeros(1, FEATURES)
    some[0, [18, 19, 23]] = torch.tensor([0.3, 0.4, 0.45])
    assert (begun(some, EVENTS) == 0).all()
    some[0, [18, 19, 23]] = torch.tensor([0.3, 0.6, 0.55])
    assert begun(some, EVENTS)[0, [18, 19, 23]].tolist() == pytest.approx([0.3, 1, 1])


def test_at_rest_nothing_passes(features: torch.Tensor) -> None:
    resting = begun(features, EVENTS, resting=True)
    assert (resting[:, list(EVENTS.passing)] == 0).all()
    others = [column for column in range(FEATURES) if column not in EVENTS.passing]
    torch.testing.assert_close(resting[:, others], features[:, others])


def test_passing_is_what_a_player_at_rest_has_none_of() -> None:
    """The columns, told by the simulator: of somebody who has stood still for long they are 0, and of nobody else."""
    states, _ = sample_states(64, 60, 5)
    busy = state_features(states.reshape(-1))
    still = states[-1].copy()
    for name in ("aim", "kick", "stride", "sway_x", "sway_y", "flash", "spark", "reload", "melee", "switch", "land"):
        still[name] = 0
    for name in ("cooldown", "vz", "z"):
        still[name] = 0
    columns = list(EVENTS.passing)
    assert not state_features(still)[:, columns].any()
    assert (np.abs(busy[:, columns]).max(0) > 0).all()


@pytest.mark.parametrize("name", ["passing", "choices", "targets"])
@pytest.mark.parametrize("column", [-1, 53])
def test_columns_that_no_frame_has_are_refused(name: str, column: int) -> None:
    assert NanoCodecConfig(events=EVENTS).features == 53
    with pytest.raises(ValueError, match="events names columns"):
        NanoCodecConfig(events=replace(EVENTS, **{name: (column,)}))


def test_the_config_survives_json() -> None:
    import json
    from dataclasses import asdict

    assert read_record(EventConfig, json.loads(json.dumps(asdict(EVENTS))), "config.json", "events") == EVENTS
