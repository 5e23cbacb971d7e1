"""The player's own files, as far as they can be read: a faulty one costs what it says, not the game."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.play import settings as settings_file
from scope_play.play.input.bindings import ControllerMap, load_map
from scope_play.play.settings import Settings


@dataclass(frozen=True)
class Stored:
    """`path` is where settings are written; None: the file is left to be mended. `complaints` say why."""

    settings: Settings
    path: Path | None
    controls: ControllerMap
    complaints: tuple[str, ...]


def read_stored() -> Stored:
    path: Path | None = settings_file.settings_path()
    complaints = []
    settings, controls = Settings(), ControllerMap()
    try:
        settings = settings_file.load(settings_file.settings_path())
    except ScopeError as error:
        complaints.append(str(error))
        path = None
    try:
        controls = load_map()
    except ScopeError as error:
        complaints.append(str(error))
    return Stored(settings, path, controls, tuple(complaints))
