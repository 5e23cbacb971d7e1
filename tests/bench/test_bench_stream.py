from __future__ import annotations

import json
from pathlib import Path

import pytest

from scope_play.bench.stream import Compared
from scope_play.cli import main


def test_stream_reports_parts_ratios_and_flatness(tmp_path: Path) -> None:
    options = ["--model", "tiny", "--chunks", "20", "--window", "3", "--repeats", "2", "--json", str(tmp_path)]
    assert main(["bench", "stream", *options]) == 0
    found = json.loads((tmp_path / "stream.json").read_text())
    assert found["spec"]["stream"]["window"] == 3
    assert [mark["chunks"] for mark in found["session"]["marks"]] == list(range(2, 21, 2))
    assert all(mark["resident_mb"] > 1 and mark["chunk_ms"] > 0 for mark in found["session"]["marks"])
    for part in ("pass_ms", "commit_ms", "decode_ms", "chunk_ms"):
        assert 0 < found["session"][part]["p50"] <= found["session"][part]["p95"] <= found["session"][part]["p99"]
    assert found["compared"]["fused_to_plain"] > 0


def test_ratios_are_of_what_is_played() -> None:
    times = {"joint_ms": 5.0, "alone_ms": 8.0, "plain_ms": 10.0, "uncached_ms": 20.0}
    assert Compared(**times, plays_jointly=True).cached_to_uncached == 0.25
    assert Compared(**times, plays_jointly=False).cached_to_uncached == 0.4
    assert Compared(**times, plays_jointly=False).fused_to_plain == 0.8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--chunks", "0"], "--chunks is 0"),
        (["--model", "tiny", "--precision", "bf16"], "leave --device, --precision and --decoder out"),
        (["--model", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_refused(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stream", *options]) == 2
    assert sentence in capsys.readouterr().err.replace("\n", " ")
