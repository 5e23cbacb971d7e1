"""Crop, resize, scaling and size rounding against the reference's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scope_play.errors import ScopeError
from scope_play.images import (
    crop_and_resize,
    frames_at_least,
    frames_at_most,
    parse_size,
    read_image,
    round_size,
    to_frames,
    to_video,
)
from tests.helpers.golden import golden_json, golden_tensors

TABLES = golden_json("images/images.json")


@pytest.mark.parametrize("case", TABLES["crop_and_resize"], ids=lambda case: case["name"])
def test_crop_and_resize(case: dict) -> None:
    golden = golden_tensors("images/images.safetensors")
    out = crop_and_resize(golden[case["name"] + ".in"].numpy(), case["height"], case["width"])
    np.testing.assert_array_equal(out, golden[case["name"] + ".out"].numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_is_exact_in_both_precisions(dtype: torch.dtype) -> None:
    golden = golden_tensors("images/images.safetensors")
    name = str(dtype).removeprefix("torch.")
    assert torch.equal(to_video(golden["preprocess.in"].numpy()[None], dtype)[:, :, 0], golden[f"preprocess.{name}"])
    out = to_frames(golden[f"quantise.{name}.in"])
    np.testing.assert_array_equal(out, golden[f"quantise.{name}.out"].numpy())


@pytest.mark.parametrize("case", TABLES["check_resize_height_width"], ids=lambda case: str(case["input"]))
def test_sizes_are_rounded_up(case: dict) -> None:
    height, width, frames = case["input"]
    assert [*round_size(height, width), frames_at_least(frames)] == case["output"]


def test_frame_counts_are_rounded_down() -> None:
    for frames, expected in golden_json("actions/load_actions.json")["compute_num_frames"].items():
        assert frames_at_most(int(frames)) == expected
    with pytest.raises(ScopeError):
        frames_at_most(0)


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    for name, words in [("absent", "no image"), ("text", "not one that can be read"), ("cut", "could not be read")]:
        with pytest.raises(ScopeError, match=words):
            read_image(tmp_path / f"{name}.png")
    with pytest.raises(ScopeError, match="too narrow"):
        crop_and_resize(np.zeros((1, 500, 3), dtype=np.uint8), 832, 480)


def test_pictures_are_read_upright_and_without_alpha(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[0, 0] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    out = read_image(tmp_path / "a.png")
    assert out.shape == (6, 4, 3)
    assert out[0, 3].tolist() == [255, 255, 255]


def test_sizes_are_read_in_the_order_that_is_said() -> None:
    assert parse_size("96x160", "HEIGHTxWIDTH") == (96, 160)
    assert parse_size(" 1280X720 ", "WIDTHxHEIGHT", least=(320, 180)) == (1280, 720)
    for text in ("96", "axb", "0x5", "96x99999", "9" * 400 + "x1", "1x2x3", "", "-4x5", "\u0663x\u0664"):
        with pytest.raises(ScopeError, match=r"size .* is not HEIGHTxWIDTH from 16x16 to 4096x4096"):
            parse_size(text, "HEIGHTxWIDTH", least=(16, 16), most=4096)
