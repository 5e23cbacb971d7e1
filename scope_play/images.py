"""Pictures on their way into and out of the networks: sizes, crop, resize, scaling (SPEC.md section 1)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Image = np.ndarray | str | Path
"""A picture: uint8 RGB (H, W, 3), or the path of one."""

SIZE_MULTIPLE = 32
"""Height and width are whole patches: 16 pixels a latent, 2 latents a patch."""


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


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture upright: uint8 RGB `(height, width, 3)`.

    Raises:
        ScopeError: the file is missing, is not a picture, is damaged, or is absurdly large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise ScopeError(f"There is no image {path}; give the path of a PNG or JPEG file.")
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise ScopeError(f"{path} is not an image; give a PNG or JPEG file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ScopeError(f"The image {path} could not be read ({error}); save it again as PNG.") from error


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
