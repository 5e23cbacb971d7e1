"""What can be seen of the actions, read from the simulator's states.

A button may do nothing (reload with a full magazine, fire with an empty one), and a stick may be blocked by a wall or
by the pitch limit. Only what shows in the picture is asked of a world:

    right_trigger   muzzle flash            left_trigger   at least half behind the scope
    south           in the air              right_thumb    blade out
    west            weapon down to reload   north          weapon being changed
    left stick      counted where the player moves freely
    right stick y   counted where the pitch is not at its limit
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scope_play.arena.config import ArenaConfig
from scope_play.arena.simulate import ArenaState

POSE = ("cos yaw", "sin yaw", "pitch", "height", "x", "y")


@dataclass(frozen=True)
class Labels:
    """For frames 0..T-1 of each of B clips: activity bool (B, T, 6) in the order of BUTTONS, sticks float32 (B, T, 4)
    of the row that acts on the frame, visible bool (B, T, 4) whether each axis shows, pose float32 (B, T, 6) as `POSE`.
    """

    activity: np.ndarray
    sticks: np.ndarray
    visible: np.ndarray
    pose: np.ndarray


def label(states: ArenaState, rows: np.ndarray, config: ArenaConfig) -> Labels:
    """`states` (T + 1, B) before and after each of `rows` (T, B, 10)."""
    before, after = states[:-1], states[1:]
    active = [
        before["flash"] > 0,
        before["aim"] >= 0.5,
        before["z"] > 0.02,
        before["melee"] > 0,
        before["reload"] > 0,
        before["switch"] > 0,
    ]
    slid = np.hypot(after["x"] - before["x"] - after["vx"], after["y"] - before["y"] - after["vy"])
    free = slid < 1e-6
    unlimited = np.abs(after["pitch"]) < config.rules.pitch_limit - 1e-6
    half = config.map.size / 2
    pose = [
        np.cos(before["yaw"]),
        np.sin(before["yaw"]),
        before["pitch"] / config.rules.pitch_limit,
        before["z"] / config.rules.jump_height,
        before["x"] / half - 1,
        before["y"] / half - 1,
    ]

    def by_clip(columns: list[np.ndarray], dtype: type) -> np.ndarray:
        return np.stack(columns, -1).swapaxes(0, 1).astype(dtype)

    return Labels(
        activity=by_clip(active, np.bool_),
        sticks=np.ascontiguousarray(rows[..., 6:].swapaxes(0, 1)),
        visible=by_clip([free, free, np.ones_like(free), unlimited], np.bool_),
        pose=by_clip(pose, np.float32),
    )
