"""How the model is run, as the settings say it: on its way into the engine, and back to the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.play.engine.protocol import Adopted, EngineLike, SetStream
from scope_play.play.settings import STREAM_SETTINGS, Settings, turned
from scope_play.weights.catalog import NANO_MODELS

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest

KEYS = ("stream_mode", *STREAM_SETTINGS)
NOT_IN_THIS_GAME = "how the model is run was changed in this game, so it cannot be recorded; record a new one"


def turn(settings: Settings, key: str, step: int, engine: EngineLike, *, recording: bool) -> tuple[Settings, str]:
    """The settings with the next value, of which the engine is told all but the chunk's length, and what to say.

    Raises ScopeError while a recording goes on.
    """
    if recording:
        raise ScopeError("a recording is made as it was begun; stop it before you change how the model is run")
    settings = turned(settings, key, step)
    if key == "chunk":  # it belongs to the game
        return settings, "The length of a chunk changes when the model is loaded again."
    changes = settings.stream_changes()
    changes.pop("chunk", None)
    engine.post(SetStream(**changes))
    return settings, ""


def with_chunk(request: LoadRequest, settings: Settings) -> LoadRequest:
    """A load with the chunk that was set in the menu. Nano's was trained."""
    return replace(request, chunk=settings.chunk) if settings.chunk and request.model not in NANO_MODELS else request


def told(event: Adopted) -> str:
    """What the player is told of a change."""
    stream, rate = event.stream, "" if event.fps is None else f", about {event.fps:.0f} frames a second"
    return f"{stream.steps} steps, guidance {stream.guidance:g}, window {stream.window}{rate}"
