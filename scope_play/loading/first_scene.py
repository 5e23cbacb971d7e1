"""What a session starts from when nobody gave a picture."""

from __future__ import annotations

import numpy as np

FIRST_SCENE_SEED = 152
"""A full rifle, and a target close by."""


def draw_first_scene(size: tuple[int, int]) -> np.ndarray:
    """The arena as a new player first sees it: uint8 (height, width, 3)."""
    from scope_play.arena.arena import Arena

    height, width = size
    return Arena(1, seed=FIRST_SCENE_SEED, height=height, width=width).render()[0]
