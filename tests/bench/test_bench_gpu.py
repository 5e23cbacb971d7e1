"""The one command for a GPU: its parts parse, one that fails stops none, and on a CPU they run small."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch

from scope_play.bench.gpu import Part, parts, run_parts
from scope_play.cli import build_parser, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("on", ["cuda", "cpu"])
def test_every_part_is_a_command_that_exists(on: str, tmp_path: Path) -> None:
    todo = parts(on, tmp_path, ROOT)
    names = [part.name for part in todo]
    assert len(set(names)) == len(names)
    order = ["verify fp32", "clip none", "clip blocks", "kernel tests", "kernels", "stream chunk 1", "stream chunk 3"]
    assert [name for name in names if name in order] == order
    assert names.index("stream 16 steps") < names.index("profile")
    for part in todo:
        module, *arguments = part.arguments[1:]
        if module != "scope_play.cli":
            continue
        args = build_parser(arguments[0]).parse_args(arguments)
        if arguments[0] == "bench":
            bench = argparse.ArgumentParser()
            importlib.import_module(f"scope_play.bench.{args.bench}").configure(bench)
            assert bench.parse_args(args.rest).json == tmp_path / part.folder


def test_an_installed_copy_has_no_tests_to_run(tmp_path: Path) -> None:
    names = [part.name for part in parts("cuda", tmp_path, None)]
    assert not any(name.startswith(("verify", "kernel tests")) for name in names)
    assert "stream chunk 1" in names


def test_a_part_that_fails_stops_none(tmp_path: Path) -> None:
    said: list[str] = []
    todo = [
        Part("bad one", "", ("-c", "print('oh no'); raise SystemExit(3)")),
        Part("dead", "", ("-c", "import os; os.abort()")),
        Part("good", "", ("-c", "print('fine')")),
    ]
    outcomes = run_parts(todo, tmp_path, 60, said.append)
    assert [outcome.code for outcome in outcomes][::2] == [3, 0]
    assert outcomes[1].code not in (0, None)
    assert "oh no" in outcomes[0].tail
    assert (tmp_path / "bad-one" / "log.txt").read_text() == "oh no\n"
    assert any("FAILED (3)" in line for line in said)


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    hanging = Part("hangs", "", ("-c", "import threading; threading.Event().wait()"))
    (outcome,) = run_parts([hanging], tmp_path, 0.2, lambda line: None)
    assert outcome.code is None


def test_the_command_runs_parts_and_writes_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", "--on", "cpu", "--only", "fp8 cache", "--out", str(tmp_path)]) == 0
    assert "1 of 1 parts done" in capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [(part["name"], part["code"]) for part in found] == [("stream fp8 cache", 0)]
    figures = json.loads((tmp_path / "stream-fp8-cache" / "stream.json").read_text())
    assert figures["spec"]["stream"]["cache"] == "fp8"
    assert figures["spec"]["name"] == "small-random"


def test_what_cannot_run_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu"]) == 2
    assert "finds no CUDA GPU; --on cpu tries the command" in capsys.readouterr().err
    assert main(["bench", "gpu", "--only", "nothing"]) == 2
    assert main(["bench", "gpu", "--list"]) == 0
    assert "scope-random --device cuda --chunk 3" in capsys.readouterr().out
