"""Where players come in: the app for players elsewhere, on a machine of the cluster that needs no GPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.serve.app import create_app
from scope_play.serve.archive import Archive
from scope_play.serve.cluster.elsewhere import FarChairs
from scope_play.serve.cluster.post import Post
from scope_play.serve.config import SHORTEST_TOKEN, TOKEN_VARIABLE, ServeConfig
from scope_play.serve.guard import Asgi
from scope_play.serve.lobby import Lobby


class Door:
    """The ingress of Ray Serve. It has the queue, the pictures and the recordings, so there is one.

    `token`: None takes it from the environment of the door's machine.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve waits for it
        self, seats: Any, config: ServeConfig, model: str, token: str | None
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = token or os.environ.get(TOKEN_VARIABLE, "")
        if len(token) < SHORTEST_TOKEN:
            raise ScopeError(f"set {TOKEN_VARIABLE} to {SHORTEST_TOKEN} letters and digits where the door runs.")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        post = ray.remote(Post).options(num_cpus=0, scheduling_strategy=here, max_concurrency=10_000)
        self._post: Any = post.remote()
        self._folder = tempfile.TemporaryDirectory(prefix="scope-play-clips-")
        root = config.record or Path(self._folder.name)
        self._lobby = Lobby(FarChairs(seats, self._post), Archive(place(root)), config)
        self._model, self._token = model, token

    def __serve_build_asgi_app__(self) -> Asgi:
        return create_app(self._lobby, self._token, self._model)

    async def wait(self) -> str:
        """Until the model is loaded somewhere; its name."""
        return (await self._lobby.setting()).spec.name

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, and games that are being played go on for at most so long."""
        await self._lobby.drain(seconds)

    async def close(self) -> None:
        """End all games; recordings are finished when it returns."""
        await self._lobby.close()

    async def check_health(self) -> None:
        await self._post.alive.remote()

    async def __del__(self) -> None:
        await self._lobby.close()
