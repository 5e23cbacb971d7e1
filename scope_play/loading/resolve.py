"""The one place where a model's name becomes a family."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.weights.catalog import NANO_MODELS, nano_folder
from scope_play.weights.download import resolve_model
from scope_play.weights.jsons import read_json_object


class Family(Enum):
    """Which loader a model needs."""

    ARENA = "the simulator"
    NATIVE = "this project's own format"
    UNTRAINED = "nano without weights"
    OFFICIAL = "the released SCOPE files"


@dataclass(frozen=True)
class ModelPlace:
    """A model's family, its name for people, and its folder (or one file) of weights; the simulator has none."""

    family: Family
    name: str
    folder: Path

    @property
    def streams(self) -> bool:
        """Whether it was trained to stream; the others make whole clips."""
        return self.family is not Family.OFFICIAL


def resolve(model: str | Path) -> ModelPlace:
    """`model`: "nano", "arena", the name of a download, or a folder.

    Raises ScopeError when there is nothing of that name.
    """
    name = str(model)
    if name == "arena":
        return ModelPlace(Family.ARENA, name, Path())
    if name in NANO_MODELS:
        folder = nano_folder(name)
        return ModelPlace(Family.NATIVE if is_native(folder) else Family.UNTRAINED, name, folder)
    folder = Path(resolve_model(model))
    if not folder.exists():
        raise ScopeError(f"there is no model {name!r}; give 'nano', or a folder or file of weights")
    return ModelPlace(Family.NATIVE if is_native(folder) else Family.OFFICIAL, folder.resolve().name, folder)


def is_native(folder: Path) -> bool:
    """Whether `folder` holds a model in this project's own format rather than the official files."""
    config = folder / "config.json"
    return config.is_file() and "world" in read_json_object(config)
