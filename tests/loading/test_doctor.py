"""What `scope-play doctor` finds, and its verdicts on machines that are described to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play.cli import main
from scope_play.loading import doctor
from scope_play.loading.free_memory import GIB, FreeMemory
from scope_play.loading.nano import native_config
from scope_play.loading.outlook import native_need
from scope_play.loading.resolve import resolve
from scope_play.world import World

READY = {"nano": "ready", "scope": "ready", "taew2_2": "ready"}
SMALLEST = "play scope --precision int8 --cache fp8 --decoder tiny"
EVERY_WAY = {f"play scope {words}" for words, _, _ in doctor.LIGHTER}

OFFLOADED = {"play scope --offload disk", "generate with scope --offload blocks", "generate with scope --offload disk"}


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_args, **_kwargs: tmp_path)
    monkeypatch.setattr(doctor, "fp8_obstacle", lambda device: None)


def test_the_json_has_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["software"]["torch"] == torch.__version__
    assert found["memory"]["free_host"] > 0
    assert "problem" in found["display"]
    assert "kernels" in found["kernels"]
    assert found["serving"] == {"packages": "ready", **dict.fromkeys(("h264", "jpeg", "lossless", "raw"), "works")}
    assert "scope-play download scope" in found["weights"]["scope"]
    modes = {mode["name"]: mode for mode in found["modes"]}
    assert not modes["play nano"]["runs"]
    assert "no display" in modes["play nano"]["reason"]
    assert modes["play nano --headless"]["runs"]
    assert not modes["generate with scope"]["runs"]


def test_what_serving_lacks_is_said_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "SERVING", ("starlette", "no-such-package"))
    main(["doctor"])
    assert "pip install 'scope-play[serve]'" in " ".join(capsys.readouterr().out.split())


def test_the_table_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("software", "disk", "weights", "play nano --headless", "runs here"):
        assert words in out


def verdicts(free: FreeMemory, device: str, *, has_display: bool = True) -> dict[str, doctor.Mode]:
    return {mode.name: mode for mode in doctor.judge_modes(free, device, READY, has_display=has_display)}


@pytest.mark.parametrize(
    ("gpu", "runs"),
    [
        (80, {*EVERY_WAY, *OFFLOADED, "play scope", "generate with scope"}),
        (23, {*EVERY_WAY, *OFFLOADED, "generate with scope"}),
        (16, {SMALLEST, "play scope --precision int8 --cache fp8", *OFFLOADED}),
        (12, {SMALLEST, *OFFLOADED}),
        (4, set()),
    ],
)
def test_verdicts_follow_the_memory_of_the_gpu(gpu: int, runs: set[str]) -> None:
    modes = verdicts(FreeMemory(gpu * GIB, 64 * GIB, is_cpu=False), "cuda")
    assert {name for name, mode in modes.items() if mode.runs} == runs | {"play nano", "play nano --headless"}


def test_what_is_missing_for_a_lighter_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "fp8_obstacle", lambda device: "needs compute capability 8.9")
    free = FreeMemory(80 * GIB, 64 * GIB, is_cpu=False)
    modes = {mode.name: mode for mode in doctor.judge_modes(free, "cuda", READY | {"taew2_2": "no"}, has_display=True)}
    assert modes[SMALLEST].reason == "weights taew2_2 not there"
    assert modes["play scope --precision fp8"].reason == "fp8 needs compute capability 8.9"
    assert modes["play scope --precision int8 --cache fp8"].runs


def test_a_small_host_can_pin_no_blocks() -> None:
    modes = verdicts(FreeMemory(16 * GIB, 8 * GIB, is_cpu=False), "cuda")
    assert "host memory" in modes["generate with scope --offload blocks"].reason


@pytest.mark.usefixtures("quick_look")
def test_nanos_need_covers_what_a_session_holds() -> None:
    world = World.load("nano", device="cpu", precision="fp32")
    held = sum(parameter.nbytes for parameter in world.model.network.parameters())
    with world.start(np.zeros((96, 160, 3), np.uint8)) as session:
        held += session.snapshot().nbytes
    assert held < native_need(native_config(resolve("nano"))).on_device() < GIB
