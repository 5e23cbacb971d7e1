from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scope_play.bench.decode import count_flops, make_codec
from scope_play.bench.offline import SMALL, velocity_of
from scope_play.bench.offline import count_flops as count_flops_of_step
from scope_play.bench.roofline import Workload, pass_costs
from scope_play.cli import main


def test_decode_reports_time_and_operations(tmp_path: Path) -> None:
    options = ["--size", "32x32", "--latents", "1", "--device", "cpu", "--json", str(tmp_path)]
    assert main(["bench", "decode", "tiny", "taew2_2", "wan-small", *options]) == 0
    found, preview, small = json.loads((tmp_path / "decode.json").read_text())["decoders"]
    assert (found["decoder"], preview["decoder"]) == ("tiny", "taew2_2")
    assert found["tflop"] == count_flops("tiny", (96, 160), torch.float32) / 1e12  # nano's codec keeps its own size
    assert preview["tflop"] == count_flops("taew2_2", (32, 32), torch.float32) / 1e12
    assert (found["of_literal"], preview["of_literal"]) == (None, None)
    assert small["of_literal"] > 0
    assert found["teraflops"] == pytest.approx(found["tflop"] / (found["median_ms"] / 1e3))


def test_operations_grow_with_the_picture() -> None:
    small, large = (count_flops("taew2_2", size, torch.float32) for size in ((48, 64), (96, 128)))
    assert large == 4 * small > 0


def test_released_decoder_costs_as_published() -> None:
    """The full decoder needs more than four passes of the transformer, 5.2 TFLOP each, for one latent frame."""
    assert 20e12 < count_flops("wan", (480, 832), torch.bfloat16) < 35e12
    assert make_codec("wan-small").config.latent_channels == 48


@pytest.mark.parametrize(
    ("size", "words"),
    [("480", "is not HEIGHTxWIDTH"), ("0x16", "is not HEIGHTxWIDTH"), ("100x160", "give multiples of 16")],
)
def test_bad_sizes_are_refused(size: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "decode", "tiny", "--size", size, "--device", "cpu"]) == 2
    assert words in capsys.readouterr().err


def test_unknown_decoder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "decode", "huge"]) == 2
    assert "'huge' is not known" in capsys.readouterr().err


def test_offline_reports_a_step(tmp_path: Path) -> None:
    options = ["--latents", "2", "--repeats", "1", "--steps", "7", "--device", "cpu", "--json", str(tmp_path)]
    assert main(["bench", "offline", "--model", "small", *options]) == 0
    found = json.loads((tmp_path / "offline.json").read_text())
    assert found["clip_seconds"] == pytest.approx(7 * found["step_seconds"])
    # Two latents of 60 tokens: twice the pass of one, and each sees the other.
    costs = pass_costs(SMALL, Workload(tokens=60, chunk=2, context=0))
    assert found["tflop"] * 1e12 == pytest.approx(sum(cost.flops for cost in costs), rel=0.05)


def test_guidance_costs_a_pass() -> None:
    config = replace(SMALL, text_dim=32, layers=1)
    latents, timestep = torch.randn(1, 64, 2, 12, 20), torch.tensor(900.0)

    def cost(*scales: float) -> int:
        velocity = velocity_of(config, 2, *scales, torch.device("cpu"), torch.float32)
        count_flops_of_step(velocity, latents, timestep)  # what all passes share is made in the first
        return count_flops_of_step(velocity, latents, timestep)

    plain, guided, both = (cost(*scales) for scales in ((1.0, 1.0), (5.0, 1.0), (5.0, 2.0)))
    assert guided == 2 * plain
    assert guided < both < 3 * plain
