"""Errors of 8 bits by block, whole clips and the profile, on the small random model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play.bench.precision import CHANGES, measure
from scope_play.bench.random_world import SHAPES, random_context, random_world
from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.kernels.text_attention import shorten

SMALL = SHAPES["small-random"]


@pytest.mark.parametrize(
    ("change", "least", "most"), [("fp8", 5e-3, 5e-2), ("int8", 5e-4, 1e-2), ("fp8 cache", 1e-4, 2e-2)]
)
def test_every_change_has_an_error_in_every_block(change: str, least: float, most: float) -> None:
    errors = measure(SMALL, change, 3, torch.device("cpu"), torch.float32)
    assert len(errors) == SMALL.network.layers
    assert all(least < error.alone < most for error in errors)
    assert errors[-1].accumulated > errors[0].accumulated
    assert errors[0].alone == pytest.approx(errors[0].accumulated, rel=0.3)


def test_the_command_prints_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "precision", "--device", "cpu", "--window", "2", "--json", str(tmp_path)]) == 0
    assert "alone" in capsys.readouterr().out
    found = json.loads((tmp_path / "precision.json").read_text())["errors"]
    assert set(found) == set(CHANGES)
    assert all(len(blocks) == SMALL.network.layers for blocks in found.values())
    assert main(["bench", "precision", "int4"]) == 2


def test_random_worlds_play_in_every_precision() -> None:
    frames = []
    for settings in ({}, {"precision": "int8"}, {"overrides": {"cache": "fp8"}}, {"decoder": "tiny"}):
        world = random_world("small-random", device="cpu", **settings)
        assert world.spec.has_text
        with world.start(seed=3, prompt="a room") as session:
            frames.append([session.step(np.zeros((4, 10), np.float32)).frames for _ in range(3)])
    assert frames[0][0].shape == (4, 64, 96, 3)
    for other in frames[1:]:
        assert not all(np.array_equal(a, b) for a, b in zip(frames[0], other, strict=True))
    with pytest.raises(ScopeError, match="'none-random' is not known"):
        random_world("none-random")


def test_random_prompts_are_padded_as_in_play() -> None:
    short, bias = shorten(random_context(SMALL.network, torch.float32))
    assert short.shape == (1, 64, 32)
    assert bias is not None


def test_a_clip_is_timed(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--frames", "5", "--steps", "2", "--offload", "blocks", "--json", str(tmp_path)]
    assert main(["bench", "clip", *options]) == 0
    found = json.loads((tmp_path / "clip.json").read_text())
    assert (found["frames"], found["steps"], found["peak_gib"]) == (5, 2, None)
    assert 0 < found["step_seconds"] < found["clip_seconds"]


def test_a_profile_names_the_operations(tmp_path: Path) -> None:
    assert main(["bench", "profile", "--device", "cpu", "--chunks", "1", "--json", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "profile.json").read_text())["operations"]
    assert "aten::addmm" in {operation["name"] for operation in found}
    assert sum(operation["share"] for operation in found) == pytest.approx(1)
    assert found[0]["milliseconds"] >= found[-1]["milliseconds"]
