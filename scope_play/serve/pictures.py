"""Pictures that games can start from: the scenes that came with the app, and what players sent."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable

import numpy as np

from scope_play.errors import ScopeError
from scope_play.images import crop_and_resize, read_image
from scope_play.play.menus.scenes import Scene

MOST_UPLOAD = 16 << 20
MOST_PIXELS = 40_000_000
MOST_KEPT = 64 << 20
FORMATS = ("PNG", "JPEG", "WEBP")


def check_picture(data: bytes) -> None:
    """Raises ScopeError unless it is a picture of a kind and size that is taken. Its pixels are not decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception as error:
        raise ScopeError("the picture is no PNG, JPEG or WebP file that can be read; save it as one.") from error
    if width * height > MOST_PIXELS:
        raise ScopeError(f"the picture has {width}x{height} pixels, more than {MOST_PIXELS}; make it smaller.")


class Pictures:
    """Ids are places in a list or drawn; none is ever part of a path. All methods are for the event loop's thread."""

    def __init__(self, scenes: tuple[Scene, ...]) -> None:
        self.scenes = scenes
        self._uploads: dict[str, bytes] = {}

    def add(self, data: bytes) -> str:
        """Keep a checked picture, for as long as newer ones leave room. Returns its id."""
        name = secrets.token_urlsafe(12)
        self._uploads[name] = data
        while sum(map(len, self._uploads.values())) > MOST_KEPT:
            del self._uploads[next(iter(self._uploads))]
        return name

    def fitted(self, name: str, height: int, width: int) -> Callable[[], np.ndarray]:
        """What decodes a picture and cuts it to size, in whatever thread: uint8 (height, width, 3)."""
        source = self._uploads.get(name)
        if source is None:
            path = next((s.path for i, s in enumerate(self.scenes) if s.path and name == f"scene-{i}"), None)
            if path is None:
                raise ScopeError(f"there is no picture {name[:40]!r} here; send it again.")
            return lambda: crop_and_resize(read_image(path), height, width)
        return lambda: crop_and_resize(read_image(source), height, width)
