"""A world as a Gymnasium environment (install `scope-play[gym]`).

    env = ScopeEnv("nano")
    observation, info = env.reset(seed=7)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

or, by its registered id, `gymnasium.make("scope_play.env:scope_play/Nano-v0")`.

One step is one chunk: an action is held for all its frames, the observation is the last of them, and `info["frames"]`
has them all. `render` too shows one frame a step, and `metadata["render_fps"]` counts those. A world model knows no
score: reward is 0 unless `reward` computes one from the frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from scope_play.actions import BUTTONS, FPS, ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.images import Image
from scope_play.loading.load import frame_size
from scope_play.loading.resolve import resolve
from scope_play.session.batch import SessionBatch
from scope_play.session.session import Session
from scope_play.world import World

Reward = Callable[[np.ndarray], float]
"""Score of a chunk's frames, uint8 (frames, H, W, 3)."""

CHUNK_FRAMES = 4
"""Of the models that there are; an environment's own metadata has its own model's."""

LOADED_IN = os.getpid()
"""The process that imported torch, whose threads do not live on in a fork of it."""

gymnasium.register("scope_play/Nano-v0", "scope_play.env:ScopeEnv", vector_entry_point="scope_play.env:ScopeVectorEnv")


def action_space() -> spaces.Dict:
    """Six buttons in {0, 1}; two sticks, each (x, y) in [-1, 1], right and down positive."""
    return spaces.Dict(
        {
            "buttons": spaces.MultiBinary(len(BUTTONS)),
            "left_stick": spaces.Box(-1, 1, (2,), np.float32),
            "right_stick": spaces.Box(-1, 1, (2,), np.float32),
        }
    )


def action_row(action: dict[str, Any]) -> np.ndarray:
    """An action of `action_space`, or a batch of them, as rows (..., 10)."""
    parts = [np.asarray(action[name], np.float32) for name in ("buttons", "left_stick", "right_stick")]
    row = np.concatenate(parts, axis=-1)
    if row.shape[-1] != ROW_WIDTH:
        raise ScopeError(f"an action makes a row of {row.shape[-1]} values, but {ROW_WIDTH} are needed")
    return row


def observation_space(model: str | Path | World) -> spaces.Box:
    """A frame. Nothing is loaded for it."""
    size = (model.spec.height, model.spec.width) if isinstance(model, World) else frame_size(resolve(model))
    return spaces.Box(0, 255, (*size, 3), np.uint8)


def forked() -> bool:
    """Whether this process is a fork of one with torch, whose threads it lacks: loading would wait for them for ever.

    An environment can be made in one all the same, and refuses to be reset: what is raised where AsyncVectorEnv makes
    it dies with its process, and what is raised in a reset reaches whoever asked for it.
    """
    return os.getpid() != LOADED_IN


def check_process() -> None:
    """Raises ScopeError in a fork."""
    if forked():
        raise ScopeError(
            "this process was forked from one that uses torch, which would hang here; give AsyncVectorEnv (or "
            'multiprocessing) context="spawn".'
        )


def check_options(options: dict[str, Any] | None, *known: str) -> dict[str, Any]:
    """The options of a reset. Raises ScopeError for those that nobody knows."""
    for name in options or {}:
        if name not in known:
            raise ScopeError(f"reset has no option {name!r} here; it takes {' and '.join(known)}.")
    return options or {}


class ScopeEnv(gymnasium.Env[np.ndarray, dict[str, Any]], EzPickle):
    """One running world. It is pickled by its arguments: a copy has not been reset.

    In a process forked from the one that imported this module, `reset` and `step` raise ScopeError.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS / CHUNK_FRAMES}  # noqa: RUF012

    def __init__(
        self,
        model: str | Path | World = "nano",
        *,
        image: Image | None = None,
        prompt: str | None = None,
        max_chunks: int | None = None,
        reward: Reward | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`max_chunks` truncates an episode; `render_mode` is "rgb_array" or None."""
        EzPickle.__init__(
            self, model, image=image, prompt=prompt, max_chunks=max_chunks, reward=reward, render_mode=render_mode
        )
        if render_mode not in (None, "rgb_array"):
            raise ScopeError(f"render_mode {render_mode!r} is not known; use 'rgb_array' or None")
        if not forked():
            self.world = model if isinstance(model, World) else World.load(model)
            self.metadata = {**self.metadata, "render_fps": FPS / self.world.spec.frames_per_chunk}
        self.image, self.prompt = image, prompt
        self.max_chunks = max_chunks
        self.reward = reward
        self.render_mode = render_mode
        self.action_space = action_space()
        self.observation_space = observation_space(model)
        self._session: Session | None = None
        self._frame: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start again. `options` may give another "image" or "prompt" for this episode."""
        check_process()
        super().reset(seed=seed)
        options = check_options(options, "image", "prompt")
        if self._session is not None:
            self._session.close()
        drawn = int(self.np_random.integers(2**63))
        self._session = self.world.start(
            options.get("image", self.image), options.get("prompt", self.prompt), drawn if seed is None else seed
        )
        self._frame = self._session.first_frame
        return self._frame, {"frames": self._frame[None]}

    def step(self, action: dict[str, Any]) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        check_process()
        if self._session is None:
            raise ScopeError("the environment has not been reset; call reset() before step()")
        chunk = self._session.step(np.tile(action_row(action), (self.world.spec.frames_per_chunk, 1)))
        self._frame = chunk.frames[-1]
        reward = 0.0 if self.reward is None else float(self.reward(chunk.frames))
        truncated = self.max_chunks is not None and self._session.index >= self.max_chunks
        return self._frame, reward, False, truncated, {"frames": chunk.frames}

    def render(self) -> np.ndarray | None:
        return self._frame if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class ScopeVectorEnv(VectorEnv[np.ndarray, dict[str, Any], np.ndarray], EzPickle):
    """Several sessions stepped as one batch on one model. They reset, and are truncated, together.

    Pickling and forks: as `ScopeEnv`.
    """

    metadata = {  # noqa: RUF012
        "render_modes": [],
        "render_fps": FPS / CHUNK_FRAMES,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        model: str | Path | World = "nano",
        num_envs: int = 1,
        *,
        images: Sequence[Image | None] | None = None,
        max_chunks: int | None = None,
        reward: Reward | None = None,
    ) -> None:
        EzPickle.__init__(self, model, num_envs, images=images, max_chunks=max_chunks, reward=reward)
        if not forked():
            self.world = model if isinstance(model, World) else World.load(model)
        self.num_envs = num_envs
        self.images: Sequence[Image | None] = [None] * num_envs if images is None else images
        self.max_chunks = max_chunks
        self.reward = reward
        self.single_action_space = action_space()
        self.single_observation_space = observation_space(model)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._batch: SessionBatch | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all again. An int seeds environment i with seed + i. Raises ScopeError for a "reset_mask" in `options`
        that leaves some out."""
        check_process()
        mask = np.asarray(check_options(options, "reset_mask").get("reset_mask", True))
        if not mask.all() or mask.size not in (1, self.num_envs):
            raise ScopeError("these environments reset together; give a reset_mask that has all of them, or none.")
        super().reset(seed=seed if isinstance(seed, int) else None)
        given = (
            [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed or [None] * self.num_envs)
        )
        seeds = [int(self.np_random.integers(2**63)) if one is None else one for one in given]
        self.close_extras()
        self._batch = self.world.start_many(self.images, seeds)
        frames = self._batch.first_frames
        return frames, {"frames": frames[:, None]}

    def step(self, actions: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        check_process()
        if self._batch is None:
            raise ScopeError("the environment has not been reset; call reset() before step()")
        rows = np.repeat(action_row(actions)[:, None], self.world.spec.frames_per_chunk, axis=1)
        chunk = self._batch.step(rows)
        rewards = np.array([0.0 if self.reward is None else float(self.reward(one)) for one in chunk.frames])
        ended = self.max_chunks is not None and self._batch.index >= self.max_chunks
        never, truncated = np.zeros(self.num_envs, bool), np.full(self.num_envs, ended)
        return chunk.frames[:, -1], rewards, never, truncated, {"frames": chunk.frames}

    def close_extras(self, **kwargs: Any) -> None:
        if self._batch is not None:
            self._batch.close()
            self._batch = None
