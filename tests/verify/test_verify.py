"""`scope-play verify` passes on the golden vectors, and fails when the network is wrong in a small way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionModule, window_rows, windows_at
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.layers import RMSNorm
from scope_play.verify import networks
from scope_play.verify.golden import Check, GoldenFolder, largest_difference
from tests.helpers.golden import SUBSET, golden_root

BOTH = (torch.float32, torch.bfloat16)


def test_every_case_passes() -> None:
    folder = GoldenFolder(golden_root())
    checks = list(networks.run_checks(folder, torch.device("cpu"), BOTH))
    assert {case.id for case in folder.cases} <= {check.case for check in checks}
    assert [check for check in checks if not check.passed] == []
    tables = {check.case.split("/")[0] for check in checks}
    assert {"scheduler", "tokenizer", "actions", "images"} <= tables


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The action module and transformer cases in float32 alone, so that each broken run is quick."""
    index = json.loads((SUBSET / "index.json").read_text())
    index["cases"] = [case for case in index["cases"] if case["id"] in {"action_module/a_f5_both", "dit/a_fused_both"}]
    for name in [file for case in index["cases"] for file in (case["file"], case["weights"])]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(SUBSET / name, tmp_path / name)
    (tmp_path / "index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_right_network_exits_with_0(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(small)]) == 0
    assert "2 cases, 2 checks on cpu: none failed" in capsys.readouterr().out


def wrong_layer_norm_epsilon(patch: pytest.MonkeyPatch) -> None:
    build = ActionModule.__init__

    def init(self: ActionModule, *args: object) -> None:
        build(self, *args)  # type: ignore[arg-type]
        self.mouse_mlp.get_submodule("3").__dict__["eps"] = 1e-6

    patch.setattr(ActionModule, "__init__", init)


def wrong_rms_norm_epsilon(patch: pytest.MonkeyPatch) -> None:
    build = RMSNorm.__init__
    patch.setattr(RMSNorm, "__init__", lambda self, dim, eps: build(self, dim, 1e-5))


def windows_one_frame_late(patch: pytest.MonkeyPatch) -> None:
    def late(rows: Tensor, latents: int, config: ActionConfig) -> Tensor:
        return window_rows(torch.cat([rows[:, :1], rows], dim=1), latents, config)

    def late_at(rows: Tensor, index: Tensor, config: ActionConfig) -> Tensor:
        return windows_at(torch.cat([rows[:, :1], rows], dim=1), index, config)

    patch.setattr("scope_play.verify.networks.window_rows", late)
    patch.setattr("scope_play.model.dit.dit.windows_at", late_at)


def erf_gelu(patch: pytest.MonkeyPatch) -> None:
    gelu = torch.nn.functional.gelu
    patch.setattr("torch.nn.functional.gelu", lambda x, approximate="none": gelu(x))


@pytest.mark.parametrize("fault", [wrong_layer_norm_epsilon, wrong_rms_norm_epsilon, windows_one_frame_late, erf_gelu])
def test_a_wrong_network_exits_with_1(
    fault: object, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault(monkeypatch)  # type: ignore[operator]
    assert main(["verify", str(small), "--failures"]) == 1
    shown = capsys.readouterr().out
    assert "NO" in shown
    assert "yes" not in shown


def test_precision_selects_cases(capsys: pytest.CaptureFixture[str]) -> None:
    folder = GoldenFolder(SUBSET)
    checks = list(networks.run_checks(folder, torch.device("cpu"), (torch.bfloat16,)))
    cases = {check.case for check in checks} & {case.id for case in folder.cases}
    assert cases
    assert all(name.endswith("bf16") for name in cases)


def test_not_a_number_does_not_pass() -> None:
    nan = torch.tensor([float("nan")])
    assert not Check("a", "b", largest_difference(nan, nan), 1.0).passed
    assert largest_difference(torch.zeros(2), torch.zeros(3)) == float("inf")


def test_broken_folders_are_refused_in_one_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=r"There is no .*index.json"):
        GoldenFolder(tmp_path / "absent")
    weights = small / "dit" / "weights_a.safetensors"
    whole = weights.read_bytes()

    def attempt() -> None:
        list(networks.run_checks(GoldenFolder(small), torch.device("cpu"), BOTH))

    weights.write_bytes(whole[:1000])
    with pytest.raises(ScopeError, match=r"weights_a.safetensors is not a readable safetensors file"):
        attempt()
    shutil.copyfile(small / "action_module" / "weights_a.safetensors", weights)
    with pytest.raises(ScopeError, match=r"weights_a.safetensors does not fit dit/a_fused_both: .*Missing key"):
        attempt()
    weights.unlink()
    with pytest.raises(ScopeError, match="which the index names"):
        attempt()
    index = json.loads((small / "index.json").read_text())
    (small / "index.json").write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(ScopeError, match="format 2"):
        GoldenFolder(small)
    (small / "index.json").write_text("{")
    with pytest.raises(ScopeError, match="could not be read as JSON"):
        GoldenFolder(small)


def test_outside_a_checkout_a_folder_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scope_play.commands.verify.__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert main(["verify"]) == 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_case_passes_on_the_gpu() -> None:
    assert main(["verify", str(golden_root()), "--device", "cuda", "--failures"]) == 0


@pytest.mark.parametrize("kind", networks.CASES)
def test_a_parameter_that_nobody_knows_is_no_verdict(kind: str) -> None:
    folder = GoldenFolder(SUBSET)
    case = next(case for case in folder.cases if case.kind == kind)
    folder.cases = [replace(case, params={**case.params, "sigma_min": 0.003})]
    with pytest.raises(ScopeError, match=rf"{case.id}.*'sigma_min' that this version does not know"):
        list(networks.run_checks(folder, torch.device("cpu"), BOTH))


def test_a_pipelines_shift_is_heeded() -> None:
    folder = GoldenFolder(SUBSET)
    case = next(case for case in folder.cases if case.kind == "pipeline")

    def failed(**params: float) -> set[str]:
        folder.cases = [replace(case, params={**case.params, **params})]
        checks = networks.run_checks(folder, torch.device("cpu"), BOTH)
        return {check.quantity for check in checks if check.case == case.id and not check.passed}

    assert failed(sigma_shift=5.0) == set()
    assert {"sigmas", "timesteps"} <= failed(sigma_shift=3.0)
