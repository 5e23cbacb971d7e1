"""Replaying a clip on the model that serves, between the chunks of those who play."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from scope_play.errors import ScopeError
from scope_play.recording.clip import frame_hash, read_clip
from scope_play.recording.replay import clip_script, play
from scope_play.serve.archive import Archive, Clip
from scope_play.serve.floor import Floor
from scope_play.session.interfaces import SessionLike, WorldLike
from scope_play.wire import messages


class Checks:
    """One visitor's replays, one at a time; `send` gets how far they are."""

    def __init__(self, floor: Floor, archive: Archive, send: Callable[[Any], None]) -> None:
        self._floor, self._archive, self._send = floor, archive, send
        self._stopped = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str) -> None:
        if self._task and not self._task.done():
            self._send(messages.Refused("a clip is being checked; wait for it."))
        else:
            self._task = asyncio.get_running_loop().create_task(self._check(name))

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._stopped.set()

    async def _check(self, name: str) -> None:
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int, different: int | None) -> None:
            loop.call_soon_threadsafe(self._send, messages.Checked(name, done, total, different))

        try:
            clip = self._archive.clip(name)
            await asyncio.wrap_future(self._floor.ask(object(), lambda: self._replay(clip, tell)))
        except ScopeError as error:
            self._send(messages.Refused(str(error)))

    def _replay(self, clip: Clip, tell: Callable[[int, int, int | None], None]) -> None:
        """In the model's thread."""
        script = clip_script(read_clip(clip.path, check_video=False))
        world = self._floor.ground.result().world
        total = len(script.hashes)
        for number, frame in play(script, _Polite(world, self._floor.serve_others)):
            if self._stopped.is_set():
                return
            if frame_hash(frame) != script.hashes[number]:
                tell(number, total, number)
                return
            if number % script.frames_per_chunk == 0:
                tell(number + 1, total, None)


class _Polite:
    """A world whose sessions let others pass before every chunk."""

    def __init__(self, world: WorldLike, give_way: Callable[[], None]) -> None:
        self._world, self._give_way = world, give_way
        self.spec, self.identity = world.spec, world.identity

    def start(self, image: Any = None, prompt: str | None = None, seed: int = 0) -> SessionLike:
        session = self._world.start(image, prompt, seed)
        step = session.step

        def after_others(*arguments: Any, **options: Any) -> Any:
            self._give_way()
            return step(*arguments, **options)

        session.step = after_others  # type: ignore[method-assign]
        return session
