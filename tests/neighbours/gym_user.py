"""What somebody does who trains agents: makes the environment by its name, films it, runs several, teaches PPO.

Run by `.ci/neighbours gym`, in an environment of its own with the versions of `gym.txt`. Prints a line for each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import av
import datasets
import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import RecordVideo, TransformAction
from stable_baselines3 import PPO

from scope_play import cli
from scope_play.actions import write_actions
from scope_play.errors import ScopeError

NAME = "scope_play.env:scope_play/Nano-v0"
MODEL = "nano-96x160"
STEPS = 6


def as_box(env: gymnasium.Env) -> gymnasium.Env:
    """Ten numbers in [-1, 1] instead of named parts: what PPO can act with."""

    def unpack(row: np.ndarray) -> dict[str, Any]:
        return {"buttons": (row[:6] > 0).astype(np.int8), "left_stick": row[6:8], "right_stick": row[8:]}

    return TransformAction(env, unpack, gymnasium.spaces.Box(-1, 1, (10,), np.float32))


def make() -> gymnasium.Env:
    return gymnasium.make(NAME, model=MODEL, max_chunks=STEPS)


def film(folder: Path) -> None:
    """A film lasts as long as what it shows: five frames a second, one a step."""
    env = RecordVideo(gymnasium.make(NAME, model=MODEL, max_chunks=STEPS, render_mode="rgb_array"), str(folder))
    env.reset(seed=1)
    while not env.step(env.action_space.sample())[3]:
        pass
    env.close()
    (path,) = folder.glob("*.mp4")
    with av.open(str(path)) as film:
        rate, frames = film.streams.video[0].average_rate, sum(1 for _ in film.decode(video=0))
    assert (rate, frames) == (5, STEPS + 1), (rate, frames)
    print(f"RecordVideo: {frames} frames at {rate} a second")


def side_by_side() -> None:
    """Forked after torch has threads: a sentence and no hang. Spawned: it plays, as one alone does."""
    alone = make()
    first, _ = alone.reset(seed=3)
    try:
        AsyncVectorEnv([make, make]).reset(seed=3)
    except ScopeError as error:
        sentence = str(error)
    assert 'context="spawn"' in sentence
    several = AsyncVectorEnv([make, make], context="spawn")
    seen, _ = several.reset(seed=[3, 4])
    assert np.array_equal(seen[0], first)
    for _ in range(3):
        action = several.single_action_space.sample()
        both = gymnasium.vector.utils.concatenate(
            several.single_action_space, [action, action], gymnasium.vector.utils.create_empty_array(
                several.single_action_space, 2
            )
        )  # fmt: skip
        assert np.array_equal(several.step(both)[0][0], alone.step(action)[0])
    several.close()
    print("AsyncVectorEnv: refuses a fork in a sentence, and spawned plays what one alone plays")


def teach() -> None:
    model = PPO("CnnPolicy", as_box(make()), n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(16)
    assert any((p != q).any() for p, q in zip(model.policy.parameters(), before, strict=True))
    print(f"PPO: {model.num_timesteps} steps")


def open_dataset(folder: Path) -> None:
    rows = np.zeros((41, 10), np.float32)
    rows[8:20, 7] = -1
    write_actions(folder / "walk.parquet", rows)
    walk = ["--headless", "--actions", str(folder / "walk.parquet"), "--out", str(folder / "clips")]
    assert cli.main(["play", "--model", MODEL, *walk]) == 0
    assert cli.main(["export", str(folder / "clips"), "--out", str(folder / "set")]) == 0
    found = datasets.load_dataset(str(folder / "set"), split="train", cache_dir=str(folder / "cache"))
    assert np.allclose(np.array(found["action"])[: len(rows)], rows[: len(found)])
    print(f"datasets: {len(found)} rows, columns {', '.join(found.column_names)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        film(Path(made) / "film")
        side_by_side()
        teach()
        open_dataset(Path(made))
