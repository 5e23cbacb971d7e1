"""Loading a world where the engine runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.session.interfaces import WorldLike


def open_here(request: LoadRequest) -> WorldLike:
    """Called in the engine's thread: torch is imported there, so that the window is there at once.

    One core is left to the window and the video encoder unless OMP_NUM_THREADS says otherwise: a model that takes
    them all waits for its slowest thread, the one that shares its core. What no processor plays in real time has them
    all.
    """
    if request.model != "arena":
        import psutil
        import torch

        from scope_play.loading.resolve import resolve

        if "OMP_NUM_THREADS" not in os.environ and resolve(request.model).streams:
            torch.set_num_threads(max(1, (psutil.cpu_count(logical=False) or 2) - 1))
    from scope_play.world import open_world

    return open_world(request)
