"""Pictures on their way into and out of the networks: sizes, crop, resize, scaling (SPEC.md section 1)."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image as PILImage
    from torch import Tensor

Image = np.ndarray | str | Path | bytes
"""A picture: uint8 RGB (H, W, 3), the path of one, or what such a file holds."""

THUMBNAIL_HEIGHT = 96
"""Small worlds are kept whole; two minutes of them are 28 MB."""

SIZE_MULTIPLE = 32
"""Height and width are whole patches: 16 pixels a latent, 2 latents a patch."""


def parse_size(text: str, form: str, *, least: tuple[int, int] = (1, 1), most: int = 16_384) -> tuple[int, int]:
    """Two whole numbers with an x between them, in the order that `form` names ("HEIGHTxWIDTH" or the other).

    Raises ScopeError unless both lie between `least` and `most`.
    """
    first, _, second = text.strip().lower().partition("x")
    if text.isascii() and first.isdigit() and second.isdigit() and len(first + second) < 12:
        size = int(first), int(second)
        if all(low <= number <= most for low, number in zip(least, size, strict=True)):
            return size
    example = "480x832" if form.startswith("H") else "1280x720"
    raise ScopeError(
        f"size {text!r} is not {form} from {least[0]}x{least[1]} to {most}x{most}; write for example {example}."
    )


def round_size(height: int, width: int) -> tuple[int, int]:
    """The next height and width that the networks can make, never smaller than asked for."""
    if height < 1 or width < 1:
        raise ScopeError(f"A clip of {height}x{width} pixels cannot be made; use a size such as 480x832.")
    return -(-height // SIZE_MULTIPLE) * SIZE_MULTIPLE, -(-width // SIZE_MULTIPLE) * SIZE_MULTIPLE


def frames_at_least(frames: int) -> int:
    """The next clip length 4k+1 that holds `frames`."""
    return -(-(frames - 1) // FRAMES_PER_LATENT) * FRAMES_PER_LATENT + 1


def frames_at_most(frames: int) -> int:
    """The longest clip length 4k+1 within `frames`."""
    if frames < 1:
        raise ScopeError(f"A clip of {frames} frames cannot be made; ask for at least 1.")
    return (frames - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1


WHITES = (1, 255, 65_535, 2**32 - 1)
"""What stands for white in pictures of more than 8 bits: the least of these that holds their values."""


def read_image(picture: str | os.PathLike[str] | bytes, *, upright: bool = True) -> np.ndarray:
    """Reads a picture file, or what it holds: uint8 RGB `(height, width, 3)`.

    `upright` turns it as its camera noted; else it is taken as it is stored.

    Raises:
        ScopeError: the file is missing, is not a picture, is damaged, or is absurdly large.
    """
    from PIL import Image, UnidentifiedImageError

    name = "The picture" if isinstance(picture, bytes) else f"The image {os.fspath(picture)}"
    try:
        if not isinstance(picture, bytes) and not Path(picture).is_file():
            raise ScopeError(f"There is no image {os.fspath(picture)}; give the path of a PNG or JPEG file.")
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else Path(picture)) as image:
            return _as_rgb(_upright(image) if upright else image)
    except ScopeError:
        raise
    except UnidentifiedImageError as error:
        raise ScopeError(f"{name} is not one that can be read; give a PNG or JPEG file.") from error
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ScopeError(f"{name} could not be read ({reason}); save it again as PNG.") from error


def _upright(image: PILImage) -> PILImage:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a picture whose orientation cannot be read has none
        return image


def _as_rgb(image: PILImage) -> np.ndarray:
    if not image.mode.startswith(("I", "F")):
        return np.asarray(image.convert("RGB"))
    # Pillow would clip what has more than 8 bits to white.
    values = np.nan_to_num(np.asarray(image, np.float64))
    most = float(values.max(initial=0.0))
    whites = WHITES if image.mode.startswith("F") else (65_535, *WHITES[3:]) if "16" in image.mode else WHITES[1:]
    white = next((white for white in whites if most <= white), most)
    grey = (values.clip(0, white) * (255 / white)).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def crop_and_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre-crops uint8 RGB `(h, w, 3)` to the aspect of `height` x `width` and resizes it with a bicubic filter."""
    h, w = image.shape[:2]
    # The products are evaluated left to right in double precision and truncated, as the reference does.
    if h / w < height / width:
        crop_h, crop_w = h, int(h / height * width)
    else:
        crop_h, crop_w = int(w / width * height), w
    if crop_h < 1 or crop_w < 1:
        raise ScopeError(f"An image of {h}x{w} pixels is too narrow to crop to {height}x{width}; use a larger one.")
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return stretch(image[top : top + crop_h, left : left + crop_w], height, width)


def stretch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 RGB `(h, w, 3)` to `height` x `width` with a bicubic filter, whatever its aspect."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def to_video(images: np.ndarray, dtype: torch.dtype) -> Tensor:
    """uint8 frames `(T, H, W, 3)` as the VAE takes them: `(1, 3, T, H, W)` in [-1, 1], each step rounded to `dtype`."""
    import torch

    values = torch.from_numpy(np.array(images)).permute(3, 0, 1, 2)[None].to(dtype)
    return values * (2 / 255) - 1


def to_frames(video: Tensor) -> np.ndarray:
    """A video `(1, 3, T, H, W)` in [-1, 1] as uint8 frames `(T, H, W, 3)`, truncated rather than rounded."""
    return to_levels(video)[0].cpu().numpy()


def to_levels(video: Tensor) -> Tensor:
    """Videos `(B, 3, T, H, W)` in [-1, 1] as uint8 `(B, T, H, W, 3)` where they are, truncated rather than rounded."""
    import torch

    levels = ((video.permute(0, 2, 3, 4, 1) + 1) * 127.5).clamp(0, 255)
    return levels.to(torch.uint8).contiguous()


def thumbnail(frame: np.ndarray, height: int = THUMBNAIL_HEIGHT) -> np.ndarray:
    """uint8 (H, W, 3) to at most `height` rows by averaging whole blocks of pixels."""
    block = -(-frame.shape[0] // height)
    if block == 1:
        return frame.copy()
    rows, columns = frame.shape[0] // block, frame.shape[1] // block
    blocks = frame[: rows * block, : columns * block].reshape(rows, block, columns, block, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float32).astype(np.uint8)
