from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scope_play.bench import literal_kernels
from scope_play.bench.costs import Gpu
from scope_play.bench.kernels import FP8_CASE, Case, Inputs, Shape, lines
from scope_play.bench.timing import median_and_p95, time_calls
from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import torch_kernels

KERNELS = ("pixel_attention", "button_attention", "norm_rope", "modulate", "gate_add", "action_fuse")


def test_transcriptions_compute_what_the_twins_compute() -> None:
    torch.manual_seed(0)
    twins = torch_kernels("")
    i = Inputs(Shape(tokens=3, heads=2, head_dim=16, latents=2, context=3), torch.device("cpu"), torch.float32)
    calls = {
        "pixel_attention": (i.q, i.k, i.v, i.q_weight, i.k_weight, i.pixel_rotation, i.keys, i.values, i.valid),
        "button_attention": (i.q, i.q_weight, i.pixel_rotation, i.button_keys, i.button_values, i.valid),
        "norm_rope": (i.q, i.k, i.v, i.q_weight, i.k_weight, i.video_rotation, i.keys, i.values),
        "modulate": (i.q, i.shift, i.scale),
        "gate_add": (i.q, i.k, i.gate),
        "action_fuse": (i.q, i.shift),
    }
    for name in KERNELS:
        got, want = getattr(literal_kernels, name)(*calls[name]), getattr(twins, name)(*calls[name])
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_the_transcription_widens_8_bits_first() -> None:
    torch.manual_seed(0)
    i = Inputs(Shape(tokens=3, heads=2, head_dim=16, latents=2, context=3), torch.device("cpu"), torch.float32)
    call = (i.q, i.k, i.v, i.q_weight, i.k_weight, i.pixel_rotation, i.keys, i.values, i.valid)
    exact = torch_kernels("").pixel_attention(*call)
    want = torch_kernels("").pixel_attention(*call, remembered=i.remembered)
    got = literal_kernels.pixel_attention(*call, remembered=i.remembered)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert (want - exact).abs().max() > 1e-3


def test_rates_follow_from_counts_and_time() -> None:
    case = Case("k", {}, bytes=2e9, flops=4e12)
    (line,) = lines(case, {"triton": [1.0, 2.0, 3.0]}, Gpu(tflops=10, terabytes=0.002, source=""))
    assert line.median_us == 2e6
    assert line.p95_us == 3e6
    assert line.gigabytes_per_second == pytest.approx(1)
    assert line.teraflops == pytest.approx(2)
    assert line.floor == pytest.approx(0.5)


def test_calls_are_taken_in_turns() -> None:
    order: list[str] = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = time_calls(functions, torch.device("cpu"), repeats=2, calls=2)
    assert "".join(order) == "aabb" * 3
    assert all(len(times) == 2 and min(times) >= 0 for times in seconds.values())
    assert median_and_p95([3.0, 1.0, 2.0]) == (2.0, 3.0)


def test_command_reports_every_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--repeats", "1", "--window", "2", "--json", str(tmp_path)]
    assert main(["bench", "kernels", *options]) == 0
    assert "Triton is not timed" in capsys.readouterr().out
    result = json.loads((tmp_path / "kernels.json").read_text())
    assert {line["kernel"] for line in result["lines"]} == {*KERNELS, FP8_CASE}
    assert {line["implementation"] for line in result["lines"]} == {"torch", "literal"}
    assert "kernels" in result["choice"]


def test_triton_asked_for_on_a_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from scope_play.kernels import dispatch

    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "triton")
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    assert main(["bench", "kernels", "--device", "cpu", "--repeats", "1"]) == 2
    with pytest.raises(ScopeError, match="NVIDIA GPU"):
        dispatch.select("cpu", torch.float32, heads=8, head_dim=32)
