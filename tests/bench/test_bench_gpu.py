"""The one command for a GPU: its parts parse, one that fails stops none, and on a CPU they run small."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch

from scope_play.bench.gpu import Outcome, run_parts
from scope_play.bench.gpu_parts import Part, parts
from scope_play.bench.gpu_table import FIGURES, floors, read_figures, table
from scope_play.bench.report import RESULTS
from scope_play.cli import build_parser, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dry", [False, True])
def test_every_part_is_a_command_that_exists(dry: bool, tmp_path: Path) -> None:
    todo = parts(tmp_path, ROOT, dry=dry)
    names = [part.name for part in todo]
    assert len(set(names)) == len(names)
    order = [
        "verify bf16",
        "kernel tests",
        "stream chunk 1",
        "decode",
        "products",
        "profile",
        "kernels",
        "clip none",
        "clip blocks",
    ]
    assert [name for name in names if name in order] == order
    for part in todo:
        module, *arguments = part.arguments[1:]
        if module != "scope_play.cli":
            continue
        args = build_parser(arguments[0]).parse_args(arguments)
        if arguments[0] == "bench":
            bench = argparse.ArgumentParser()
            importlib.import_module(f"scope_play.bench.{args.bench}").configure(bench)
            assert bench.parse_args(args.rest).json == tmp_path / part.folder


def test_every_figure_is_of_a_part_and_the_last_run_is_read(tmp_path: Path) -> None:
    names = {part.name for part in parts(tmp_path, ROOT, dry=False)}
    assert {figure.part for figure in FIGURES} <= names
    measured = {figure.label: value for figure, value in read_figures(RESULTS / "gpu").items()}
    assert measured["a chunk, full decoder"] == pytest.approx(190.16, abs=0.01)
    assert measured["mouse kernel, three latents"] == pytest.approx(125.48, abs=0.01)
    assert read_figures(tmp_path) == {}


def test_figures_stand_beside_the_last_run_and_the_floor() -> None:
    chunk, one_pass = FIGURES[:2]
    made = table({chunk: 95.0, one_pass: 8.0}, {chunk: 190.0}, floors("NVIDIA H200"))
    rows = list(zip(*(list(column.cells) for column in made.columns), strict=True))
    assert rows[0] == ("a chunk, full decoder", "95 ms", "190", "0.50", "")
    assert rows[1][:4] == ("a pass", "8 ms", "", "")
    assert 5 < float(rows[1][4]) < 9
    assert 30 < floors("NVIDIA H200")["decoder"] < 40
    assert floors("Radeon") == {}


def test_an_installed_copy_has_no_tests_to_run(tmp_path: Path) -> None:
    names = [part.name for part in parts(tmp_path, None, dry=False)]
    assert not any(name.startswith(("verify", "kernel tests")) for name in names)
    assert "stream chunk 1" in names


def test_a_part_that_fails_stops_none(tmp_path: Path) -> None:
    said: list[str] = []
    outcomes: list[Outcome] = []
    todo = [
        Part("bad one", "", ("-c", "print('oh no'); raise SystemExit(3)")),
        Part("dead", "", ("-c", "import os; os.abort()")),
        Part("good", "", ("-c", "print('fine')")),
    ]
    assert run_parts(todo, tmp_path, done=outcomes.append, say=said.append) == []
    assert [outcome.code for outcome in outcomes][::2] == [3, 0]
    assert outcomes[1].code not in (0, None)
    assert "oh no" in outcomes[0].tail
    assert (tmp_path / "bad-one" / "log.txt").read_text() == "oh no\n"
    assert any("FAILED (3)" in line for line in said)


HANGING = ("-c", "import threading; threading.Event().wait()")


def test_a_part_that_hangs_is_ended_and_those_without_time_are_not_begun(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    limited = [Part("hangs", "", HANGING, limit=0.2)]
    assert run_parts(limited, tmp_path, done=outcomes.append, say=lambda line: None) == []
    todo = [Part("hangs too", "", HANGING), Part("waits", "", HANGING)]
    waiting = run_parts(todo, tmp_path, 0.2, shortest=0, done=outcomes.append, say=lambda line: None)
    assert waiting == todo[1:]
    assert run_parts(todo, tmp_path, 5.0, done=outcomes.append, say=lambda line: None) == todo
    assert [(outcome.name, outcome.code) for outcome in outcomes] == [("hangs", None), ("hangs too", None)]


def test_the_command_runs_parts_and_writes_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "gpu", "--dry-run", "--minutes", "10", "--only", "fp8 cache", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "1 of 1 parts done" in capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [(part["name"], part["code"]) for part in found] == [("stream fp8 cache", 0)]
    written = tmp_path / "stream-fp8-cache" / "stream.json"
    figures = json.loads(written.read_text())
    assert figures["spec"]["stream"]["cache"] == "fp8"
    assert figures["spec"]["name"] == "small-random"
    made = written.stat().st_mtime_ns
    assert main([*words, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 parts done, 1 of them before" in shown
    assert "a chunk, caches in fp8" in shown
    assert written.stat().st_mtime_ns == made
    (tmp_path / "gpu.json").write_text("[]")
    assert main([*words, "--resume"]) == 2
    assert "delete it" in capsys.readouterr().err


def test_what_cannot_run_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu"]) == 2
    assert "finds no CUDA GPU; --dry-run tries the command" in capsys.readouterr().err
    assert main(["bench", "gpu", "--only", "nothing"]) == 2
    assert main(["bench", "gpu", "--list"]) == 0
    assert "scope-random --device cuda --chunk 3" in capsys.readouterr().out
    assert main(["bench", "gpu", "--dry-run", "--minutes", "0"]) == 2
    assert "must be more" in capsys.readouterr().err
