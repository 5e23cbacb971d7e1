"""What `scope-play doctor COMMAND ...` says of a command, and that it is what the command then asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play.actions import write_actions
from scope_play.cli import main
from scope_play.commands.doctor import AHEAD
from scope_play.loading import scope
from scope_play.loading.free_memory import GIB, FreeMemory, own_memory
from scope_play.loading.memory import Need
from scope_play.loading.outlook import Outlook, expect
from scope_play.loading.request import LoadRequest
from tests.helpers.official_folder import write_official_folder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("weights") / "SCOPE")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_args, **_kwargs: tmp_path / "data")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_args, **_kwargs: tmp_path / "cache")
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_kwargs: tmp_path / "config")


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, object]:
    assert main(["doctor", "--json", *map(str, words)]) == code
    return json.loads(capsys.readouterr().out)


def test_of_every_command_that_loads_a_model(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with SCOPE in its own settings; a longer window, more seats and a larger clip take more."""
    small = said(capsys, "play", "--model", released, "--window", 4, "--steps", 1)
    assert small["command"] == ["play", "--model", str(released), "--window", "4", "--steps", "1"]
    assert small["fits"]
    assert small["reading"]  # the empty prompt was never read here
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").rglob("*.safetensors"))
    assert said(capsys, "play", "--model", released, "--window", 12)["working"] > small["working"]
    one, three = (said(capsys, "serve", "--model", released, "--seats", seats) for seats in (1, 3))
    assert three["working"] > one["working"]
    size = ("--size", "64x96", "--out", tmp_path / "clip.mp4")
    short, long = (said(capsys, "generate", "--model", released, "--frames", n, *size) for n in (5, 81))
    assert long["working"] > short["working"]
    assert long["seconds"] > short["seconds"] > 0
    rows = tmp_path / "rows.parquet"
    write_actions(rows, np.zeros((4, 10), np.float32))
    assert said(capsys, "replay", rows, "--model", released)["offload"] == "none"


def test_it_says_what_loading_then_checks(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is the need that `load_official` places, without prompts that were read before."""
    asked: list[Need] = []
    placed = scope.require_place

    def note(need, free, offload, *rest, **named):  # type: ignore[no-untyped-def]
        mode = placed(need, free, offload, *rest, **named)
        asked.append(need(mode))
        return mode

    monkeypatch.setattr(scope, "require_place", note)
    request = LoadRequest(str(released), device="cpu", window=6)
    before = expect(request)
    scope.load_official(released, request)
    after = expect(request)
    first, second, third = asked
    assert first == second
    assert (before.reading, before.working) == (first.text, first.on_device("none"))
    assert before.reading > after.reading == third.text == 0
    assert before.working == after.working


def test_a_refusal_is_the_commands_own_sentence(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = FreeMemory(1 << 20, 1 << 20, is_cpu=True)
    monkeypatch.setattr(FreeMemory, "now", classmethod(lambda cls, device: full))
    clip = ["generate", "--model", str(released), "--size", "64x96", "--out", str(tmp_path / "clip.mp4")]
    rows = tmp_path / "rows.parquet"
    write_actions(rows, np.zeros((4, 10), np.float32))
    play = ["play", "--headless", "--model", str(released), "--actions", str(rows), "--out", str(tmp_path)]
    for words in (clip, play):
        assert main(["doctor", *words]) == 2
        foretold = capsys.readouterr().err
        assert "and 0.0 GiB are free" in foretold
        assert main(words) == 2
        assert capsys.readouterr().err.splitlines()[-1] == foretold.strip()
    assert main(["doctor", "play"]) == 1  # nano is small, and even so too large
    assert "too few" in capsys.readouterr().out


def test_words_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "bench"]) == 2
    assert ", ".join(AHEAD) in capsys.readouterr().err
    assert main(["doctor", "play", "--connect", "http://localhost:1"]) == 2
    assert "elsewhere" in capsys.readouterr().err
    assert main(["doctor", "play", "--model", "arena"]) == 2
    assert "simulator" in capsys.readouterr().err


def test_the_lines_name_what_counts(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "play", "--model", str(released), "--offload", "disk"]) == 0
    shown = capsys.readouterr().out
    for words in ("GiB of memory at most", "are free", "in their files", "while prompts are read", "program itself"):
        assert words in shown


def test_on_a_processor_everything_shares_the_memory() -> None:
    need = Need(weights=4 * GIB, blocks=3 * GIB, block=GIB, held=GIB, working=GIB, loading=GIB, text=9 * GIB)
    whole = Outlook.of(need, "none", torch.device("cpu"))
    assert whole.peak == 9 * GIB + whole.program
    blocks = Outlook.of(Need(**vars(need) | {"text": 0}), "blocks", torch.device("cpu"))
    assert blocks.peak == blocks.working + 3 * GIB + blocks.program


def test_own_memory_grows_with_what_is_allocated_and_not_with_what_is_mapped(tmp_path: Path) -> None:
    """In a process of its own, where nothing else comes and goes."""
    code = """
import sys
import numpy as np
from scope_play.loading.free_memory import own_memory
began = own_memory()
held = np.ones(256 << 20, np.uint8)
print(own_memory() - began)
np.ones(256 << 20, np.uint8).tofile(sys.argv[1])
began = own_memory()
assert np.memmap(sys.argv[1], np.uint8, "r")[::4096].sum() == 256 << 8
print(own_memory() - began)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    allocated, mapped = map(int, done.stdout.split())
    assert 200 << 20 < allocated < 300 << 20
    assert mapped < 50 << 20
    assert own_memory(tmp_path / "no such process") == 0
