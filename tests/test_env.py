"""The Gymnasium environments."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv

from scope_play.env import ScopeEnv, ScopeVectorEnv, check_process
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


def test_gymnasium_makes_it_by_its_id_in_every_way_of_rendering(world: World) -> None:
    name = "scope_play.env:scope_play/Nano-v0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, model=world, render_mode="rgb_array_list")
        env.reset(seed=1)
        env.step(env.action_space.sample())
        frames: Any = env.render()
        assert [frame.shape for frame in frames] == [(32, 64, 3)] * 2
    vector = gymnasium.make_vec("scope_play/Nano-v0", 2, model=world)
    assert isinstance(vector.unwrapped, ScopeVectorEnv)
    assert vector.reset(seed=1)[0].shape == (2, 32, 64, 3)


def test_a_person_can_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make("scope_play.env:scope_play/Nano-v0", model=world, render_mode="human")
    env.reset(seed=1)
    env.step(env.action_space.sample())
    env.close()


@pytest.mark.parametrize("kind", [ScopeEnv, ScopeVectorEnv])
def test_metadata_counts_one_frame_a_step(world: World, kind: type) -> None:
    assert kind.metadata["render_fps"] == kind(world).metadata["render_fps"] == 5  # type: ignore[attr-defined]


def test_environments_are_pickled_by_their_arguments() -> None:
    again = pickle.loads(pickle.dumps(ScopeEnv("nano", max_chunks=3)))
    assert (again.max_chunks, again.world.spec.name) == (3, "nano")
    vector = pickle.loads(pickle.dumps(ScopeVectorEnv("nano", 2, max_chunks=4)))
    assert (vector.num_envs, vector.max_chunks) == (2, 4)


def test_options_of_a_reset_are_honoured_or_refused(world: World) -> None:
    vector = ScopeVectorEnv(world, 2)
    vector.reset(seed=1, options={"reset_mask": np.array([True, True])})
    for mask in ([True, False], [False, False], [True] * 3):
        with pytest.raises(ScopeError, match="reset together; give a reset_mask that has all"):
            vector.reset(seed=1, options={"reset_mask": np.array(mask)})
    with pytest.raises(ScopeError, match="no option 'prompt' here; it takes reset_mask"):
        vector.reset(options={"prompt": "snow"})
    with pytest.raises(ScopeError, match="no option 'promt' here; it takes image and prompt"):
        ScopeEnv(world).reset(options={"promt": "snow"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("use", ["make", "reset", "step", "make two"])
def test_a_fork_of_a_process_with_torch_gets_a_sentence(world: World, use: str) -> None:
    env = ScopeEnv(world)
    env.reset(seed=1)
    env.step(env.action_space.sample())
    uses: dict[str, Callable[[], object]] = {
        "make": lambda: ScopeEnv("nano").reset(seed=1),
        "reset": lambda: env.reset(seed=1),
        "step": lambda: env.step(env.action_space.sample()),
        "make two": lambda: ScopeVectorEnv(world, 2).reset(seed=1),
    }

    def child(answer: Connection) -> None:
        try:
            uses[use]()
        except ScopeError as error:
            answer.send(str(error))
        answer.close()

    here, there = multiprocessing.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons, on forking with threads
        process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
        process.start()
    try:
        assert here.poll(60)
        assert 'context="spawn"' in here.recv()
    finally:
        process.kill()
        process.join()
    check_process()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_environments_side_by_side_in_forks_are_refused_where_they_were_asked_for(world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        several = AsyncVectorEnv([lambda: ScopeEnv("nano-96x160")] * 2, context="fork")
    assert several.single_observation_space.shape == (96, 160, 3)
    with pytest.raises(ScopeError, match='context="spawn"'), pytest.warns(UserWarning, match="Worker"):
        several.reset(seed=1)
    several.close(terminate=True)
