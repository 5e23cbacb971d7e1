"""Replaying a clip on the model that serves, between the chunks of those who play."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from scope_play.errors import ScopeError
from scope_play.recording.clip import frame_hash, read_clip
from scope_play.recording.replay import Script, clip_script, play
from scope_play.serve.archive import Archive
from scope_play.serve.stage import Checked, Stage
from scope_play.session.interfaces import SessionLike, WorldLike
from scope_play.wire import messages


class Checks:
    """One visitor's replays, one at a time; `send` gets how far they are."""

    def __init__(self, archive: Archive, send: Callable[[Any], None]) -> None:
        self._archive, self._send = archive, send
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str, stage: Stage) -> None:
        if self._task and not self._task.done():
            self._send(messages.Refused("a clip is being checked; wait for it."))
        else:
            self._task = asyncio.get_running_loop().create_task(self._check(name, stage))

    def stop(self) -> None:
        """Nobody waits for it any more."""
        if self._task:
            self._task.cancel()

    async def _check(self, name: str, stage: Stage) -> None:
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int, different: int | None) -> None:
            loop.call_soon_threadsafe(self._send, messages.Checked(name, done, total, different))

        try:
            clip = self._archive.clip(name)
            script = await asyncio.to_thread(lambda: clip_script(read_clip(clip.path, check_video=False)))
            await stage.check(script, tell)
        except ScopeError as error:
            self._send(messages.Refused(str(error)))


def compare(
    script: Script, world: WorldLike, give_way: Callable[[], None], tell: Checked, stopped: Callable[[], bool]
) -> None:
    """In the model's thread: every frame of `script` again, until one differs."""
    total = len(script.hashes)
    for number, frame in play(script, _Polite(world, give_way)):
        if stopped():
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
