"""The arena: the first-person simulator that nano learns from. Action rows in, pictures and state out.

>>> arena = Arena(batch=2, seed=0)
>>> arena.step(np.zeros((2, 10), np.float32)); frames = arena.render()   # uint8 (2, 96, 160, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scope_play.arena.arena import Arena
    from scope_play.arena.behaviour import Clip, sample_clip, sample_rows
    from scope_play.arena.config import ArenaConfig

__all__ = ["Arena", "ArenaConfig", "Clip", "sample_clip", "sample_rows"]


def __getattr__(name: str) -> Any:
    # numba takes a second to import; only those who simulate should wait for it.
    import importlib

    homes = {"Arena": "arena", "ArenaConfig": "config", "Clip": "behaviour"}
    homes |= {"sample_clip": "behaviour", "sample_rows": "behaviour"}
    if name not in homes:
        raise AttributeError(f"module 'scope_play.arena' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scope_play.arena.{homes[name]}"), name)
