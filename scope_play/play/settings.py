"""What the player chose last time, in one small TOML file (its place: platformdirs), and how this run was started."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.images import parse_size

STREAM_SETTINGS = ("guidance", "action_guidance", "steps", "window", "chunk", "shift")


@dataclass(frozen=True)
class Settings:
    """Every field is a key of the file; absent keys keep these values.

    stream_mode and what follows is how the model is denoised, see `StreamConfig`; 0 and "" are as the weights say.
    """

    model: str = "nano"
    seed: int = 0
    mode: str = "exact"
    gamepad: str = "sdl"
    fullscreen: bool = False
    window_size: str = "1280x720"
    show_stats: bool = True
    show_pad: bool = True
    smooth: bool = True
    record_dir: str = ""
    history_mb: int = 512
    stream_mode: str = ""
    guidance: float = 0.0
    action_guidance: float = 0.0
    steps: int = 0
    window: int = 0
    chunk: int = 0
    shift: float = 0.0

    def __post_init__(self) -> None:
        window_size(self)
        if not 0 <= self.history_mb <= 1 << 20:
            raise ScopeError(f"history_mb is {self.history_mb}; give megabytes between 0 and {1 << 20}.")
        if any(getattr(self, name) < 0 for name in STREAM_SETTINGS):
            raise ScopeError(f"{', '.join(STREAM_SETTINGS)} must not be negative; 0 is as the weights say.")

    def stream_changes(self) -> dict[str, Any]:
        """Those of the fields of a LoadRequest that are set here."""
        changes = {name: getattr(self, name) for name in STREAM_SETTINGS}
        changes["mode"] = self.stream_mode
        return {name: value for name, value in changes.items() if value}


@dataclass(frozen=True)
class Options:
    """How the app was started.

    `autoplay` goes straight into the game; with `record` recording begins with play; `seconds`: leave by itself after
    so long, with `autoplay` counted from the game's first moment; `gamepad`: a backend for this run, instead of the
    settings'.
    """

    models: tuple[str, ...] = ("nano",)
    model: str = "nano"
    image: str = ""
    prompt: str = ""
    seed: int = 0
    record: Path | None = None
    gamepad: str | None = None
    autoplay: bool = False
    seconds: float | None = None
    complaints: tuple[str, ...] = ()


CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("exact", "responsive"),
    "gamepad": ("sdl", "inputs", "keyboard"),
    "stream_mode": ("", "cached", "window"),
}


LADDERS: dict[str, tuple[float, ...]] = {
    "steps": (0, 1, 2, 3, 4, 6, 8, 12, 20, 30),
    "guidance": (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0),
    "action_guidance": (0.0, 1.0, 1.25, 1.5, 2.0, 3.0),
    "window": (0, 2, 4, 8, 12, 16, 20),
    "chunk": (0, 1, 2, 3, 4),
    "shift": (0.0, 1.0, 3.0, 5.0, 8.0),
}
"""What the menu offers for numbers; the file may have others."""


def turned(settings: Settings, key: str, step: int) -> Settings:
    """The next value of a choice, or the other value of a switch."""
    values: tuple[Any, ...] = LADDERS[key] if key in LADDERS else CHOICES.get(key, (False, True))
    now = getattr(settings, key)
    if key in LADDERS and now not in values:
        values = tuple(sorted((*values, now)))
    changes: dict[str, Any] = {key: values[(values.index(now) + step) % len(values)]}
    return replace(settings, **changes)


def with_changes(stored: Settings, old: Settings, new: Settings) -> Settings:
    """`stored` with what differs between `old` and `new`."""
    then, now = dataclasses.asdict(old), dataclasses.asdict(new)
    return replace(stored, **{key: value for key, value in now.items() if value != then[key]})


def settings_path() -> Path:
    """Beside the controller map."""
    from scope_play.play.input.bindings import default_path

    return default_path().with_name("settings.toml")


def window_size(settings: Settings) -> tuple[int, int]:
    """(width, height) in pixels."""
    return parse_size(settings.window_size, "WIDTHxHEIGHT", least=(320, 180))


def load(path: Path) -> Settings:
    """The file's settings, the defaults if there is none. Raises ScopeError naming the file, the key and the mend."""
    try:
        table = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except FileNotFoundError:
        return Settings()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ScopeError(f"{path} is not valid TOML ({error}); correct that line or delete the file.") from error
    except OSError as error:
        raise ScopeError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    known = {field.name: field.default for field in dataclasses.fields(Settings)}
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            mend = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}."
            raise ScopeError(f"{path} has an unknown key {key!r}; {mend}")
        _check(path, key, value, known[key])
    try:
        return replace(Settings(), **table)
    except ScopeError as error:
        raise ScopeError(f"{path}: {error}") from error


def save(path: Path, settings: Settings) -> None:
    """Written beside and renamed, so that a crash leaves the old file. Raises ScopeError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScopeError(f"settings cannot be saved to {path} ({error.strerror}); check its rights.") from error
    with replacing(path) as beside:
        beside.write_text(tomlkit.dumps(dataclasses.asdict(settings)), encoding="utf-8")


def _check(path: Path, key: str, value: Any, default: Any) -> None:
    if type(value) is not type(default) and not (type(value) is int and type(default) is float):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
        raise ScopeError(f"{path}: {key} is {value!r}; write {names[type(default)]}.")
    if key in CHOICES and value not in CHOICES[key]:
        raise ScopeError(f"{path}: {key} is {value!r}; choose one of {', '.join(CHOICES[key])}.")
