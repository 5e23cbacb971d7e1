"""Play a neural world model of first-person shooters with a gamepad.

>>> from scope_play import World
>>> world = World.load("nano")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scope_play.world import Chunk, Session, World, WorldSpec

__version__ = "0.1.0"
__all__ = ["Chunk", "Session", "World", "WorldSpec", "__version__"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `scope-play --help` and the window must not wait for it.
    if name in {"World", "Session", "Chunk", "WorldSpec"}:
        from scope_play import world

        return getattr(world, name)
    raise AttributeError(f"module 'scope_play' has no attribute {name!r}")
