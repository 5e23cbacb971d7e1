"""The loop of a training: what a bad step, a signal and a used folder may cost."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.train import checkpoint
from scope_play.train.loop import PATIENCE, Budget, Run
from scope_play.train.optim.muon import MuonAdamW, OptimiserConfig


class Counting:
    """A training of one number that counts its steps; `at` is called in the middle of each."""

    def __init__(self, at: Callable[[int], float] = lambda step: 0.0, recipe: dict[str, Any] | None = None) -> None:
        self.at, self.count, self.recipe = at, torch.zeros(1), recipe or {}
        self.cooled: tuple[int, int] | None = None

    def batch(self, step: int) -> int:
        return step

    def update(self, batch: int, step: int) -> dict[str, float]:
        self.count += 0.5
        loss = self.at(step)
        self.count += 0.5
        return {"loss": loss}

    def state(self) -> dict[str, Tensor]:
        return {"count": self.count}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.count.copy_(tensors["count"])

    def values(self) -> dict[str, Any]:
        return {"kind": "counting", "recipe": self.recipe, "seed": 0, "cooling": self.cooled}

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        raise NotImplementedError

    def cool(self, first: int, last: int) -> None:
        self.cooled = first, last


def run_of(folder: Path, trainer: Counting) -> Run[int]:
    return Run(folder, trainer, sheet_every=None, log_every=1, report=lambda _: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_goes_on(tmp_path: Path, number: int) -> None:
    def at(step: int) -> float:
        if step == 4:
            signal.raise_signal(number)
        return 0.0

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path, Counting(at)).fit(Budget(steps=9))
    assert signal.getsignal(number) is before
    step, tensors, _ = checkpoint.load(tmp_path)
    assert (step, float(tensors["count"])) == (5, 5.0)
    again = run_of(tmp_path, Counting())
    again.resume(tmp_path)
    again.fit(Budget(steps=9))
    assert float(checkpoint.load(tmp_path)[1]["count"]) == 9


def test_a_second_signal_and_an_error_save_no_half_step(tmp_path: Path) -> None:
    def twice(step: int) -> float:
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return 0.0

    def broken(step: int) -> float:
        raise RuntimeError("out of memory")

    for at, error in ((twice, KeyboardInterrupt), (broken, RuntimeError)):
        with pytest.raises(error):
            run_of(tmp_path, Counting(at)).fit(Budget(steps=9))
        assert checkpoint.checkpoints(tmp_path) == []


def test_steps_that_are_not_finite_are_told_and_do_not_go_on_for_ever(tmp_path: Path) -> None:
    run_of(tmp_path / "some", Counting(lambda step: float("nan") if step in (2, 3) else 1.0)).fit(Budget(steps=6))
    lines = [json.loads(line) for line in (tmp_path / "some" / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines if "skipped" in line] == [1, 2]
    assert all(line["loss"] == 1.0 for line in lines if "loss" in line)
    with pytest.raises(ScopeError, match=f"{PATIENCE} steps in a row had no finite gradient"):
        run_of(tmp_path / "all", Counting(lambda step: float("inf"))).fit(Budget(steps=10**6))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["matrix", "bias"])
def test_one_gradient_that_is_not_finite_changes_nothing(bad: float, where: str) -> None:
    parameters = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in (("matrix", (4, 4)), ("bias", (4,)))}
    optimiser = MuonAdamW(parameters, ["matrix"], OptimiserConfig())
    gradients = {name: torch.ones_like(parameter) for name, parameter in parameters.items()}
    optimiser.update(gradients, 0)
    before = {name: value.clone() for name, value in ({**parameters, **optimiser.state()}).items()}
    gradients[where].view(-1)[1] = bad
    assert not np.isfinite(optimiser.update(gradients, 1))
    for name, value in ({**parameters, **optimiser.state()}).items():
        assert torch.equal(value, before[name]), name


def test_decay_shrinks_matrices_and_not_norms() -> None:
    parameters = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in (("head", (3, 3)), ("norm", (3,)))}
    optimiser = MuonAdamW(parameters, [], OptimiserConfig(lr=0.1, warmup=0, weight_decay=0.5))
    optimiser.update({name: torch.zeros_like(parameter) for name, parameter in parameters.items()}, 0)
    assert float(parameters["head"][0, 0]) == pytest.approx(1 - 0.1 * 0.5 * 0.5)
    assert float(parameters["norm"][0]) == 1


def test_resuming_keeps_the_falling_rate_and_refuses_another_recipe(tmp_path: Path) -> None:
    first = run_of(tmp_path, Counting(recipe={"clips": 4}))
    first.cool(2, 8)
    first.fit(Budget(steps=3))
    trainer = Counting(recipe={"clips": 4})
    again = run_of(tmp_path, trainer)
    again.resume(tmp_path)
    assert (again.step, again.cooling, trainer.cooled) == (3, (2, 8), (2, 8))
    with pytest.raises(ScopeError, match=r"trained with another recipe \(\{'clips': 4\}\)"):
        run_of(tmp_path, Counting(recipe={"clips": 5})).resume(tmp_path)


def test_a_folder_that_holds_a_training_is_not_trained_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "autoencoder"):
        checkpoint.save(folder, 7, {"x": torch.ones(1)}, {})
    for kind in ("world", "nano"):
        assert (
            main(
                ["train", kind, "--out", str(tmp_path), "--steps", "1", "--codec", str(tmp_path)][
                    : 6 + 2 * (kind == "world")
                ]
            )
            == 2
        )
        assert "holds a training, checkpoint-00000007; go on with --resume" in capsys.readouterr().err
    assert checkpoint.load(tmp_path)[0] == 7
