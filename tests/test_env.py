"""The Gymnasium environments."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from scope_play.env import ScopeEnv, ScopeVectorEnv
from scope_play.errors import ScopeError
from scope_play.world import World
from tests.helpers.small_world import small_world


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


def test_gymnasium_finds_no_fault(world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An environment made without gymnasium.make has no spec; nothing else may be complained about.
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        check_env(ScopeEnv(world, render_mode="rgb_array"), skip_render_check=False)


def test_episodes_repeat_by_seed_and_end(world: World) -> None:
    env = ScopeEnv(world, max_chunks=3, reward=lambda frames: float(frames.mean()))
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(3)]
    runs = []
    for _ in range(2):
        env.reset(seed=4)
        runs.append([env.step(action) for action in actions])
    for (first, score, *_), (again, same, *_) in zip(*runs, strict=True):
        assert np.array_equal(first, again)
        assert score == same > 0
    assert [step[3] for step in runs[0]] == [False, False, True]


def test_a_vector_of_worlds_equals_its_members(world: World) -> None:
    vector, single = ScopeVectorEnv(world, 2), ScopeEnv(world)
    vector.action_space.seed(1)
    actions = [vector.action_space.sample() for _ in range(3)]
    vector.reset(seed=9)
    together = [vector.step(action)[0] for action in actions]
    single.reset(seed=10)
    for action, frames in zip(actions, together, strict=True):
        alone = single.step({name: value[1] for name, value in action.items()})[0]
        assert np.abs(frames[1].astype(int) - alone.astype(int)).max() <= 1


def test_a_step_before_reset_is_refused(world: World) -> None:
    with pytest.raises(ScopeError, match="call reset"):
        ScopeEnv(world).step({})
    with pytest.raises(ScopeError, match="call reset"):
        ScopeVectorEnv(world, 2).step({})
