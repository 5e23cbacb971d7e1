"""Pictures a session can start from: the model's own scene, those shipped with the app, and the player's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from scope_play.errors import ScopeError
from scope_play.images import read_image, thumbnail

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
PREVIEW_HEIGHT = 480


@dataclass(frozen=True)
class Scene:
    """`path` None is the model's own first scene."""

    name: str
    path: Path | None = None


OWN = Scene("The model's own")


def shipped_scenes(model: str) -> tuple[Scene, ...]:
    """The model's own scene, then `assets/scenes/MODEL/*`, then `assets/scenes/*`, each sorted by name."""
    import scope_play.assets
    from scope_play.weights.catalog import NANO_MODELS

    root = Path(scope_play.assets.__path__[0]) / "scenes"
    found = [
        Scene(path.stem.replace("_", " ").replace("-", " ").capitalize(), path)
        for folder in (root / (NANO_MODELS[0] if model in NANO_MODELS else model), root)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in PICTURE_ENDINGS
    ]
    return (OWN, *found)


@lru_cache(maxsize=16)
def preview(path: Path) -> np.ndarray | None:
    """A picture for the start screen, uint8 (H, W, 3), at most `PREVIEW_HEIGHT` high; None if it cannot be read.

    The sentence about an unreadable picture comes from the model that is asked to start from it.
    """
    try:
        return thumbnail(read_image(path), PREVIEW_HEIGHT)
    except ScopeError:
        return None
