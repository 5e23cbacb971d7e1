"""Sigmas, timesteps and Euler steps against the reference's tables."""

from __future__ import annotations

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from tests.helpers.golden import golden_json, golden_tensors

TABLES = golden_json("scheduler/scheduler.json")


@pytest.mark.parametrize("steps", [4, 8, 30, 50])
@pytest.mark.parametrize("shift", [3, 5])
def test_tables(steps: int, shift: int) -> None:
    golden = golden_tensors("scheduler/scheduler.safetensors")
    name = f"n{steps}_s{shift}"
    sigmas = make_sigmas(steps, float(shift))
    assert sigmas[-1] == 0
    assert torch.equal(sigmas[:-1], golden[f"{name}.sigmas"])
    assert torch.equal(make_timesteps(sigmas[:-1], torch.float32), golden[f"{name}.timesteps"])
    assert torch.equal(make_timesteps(sigmas[:-1], torch.bfloat16), golden[f"{name}.timesteps_bf16"].float())


@pytest.mark.parametrize("name", ["n4_s5_float32", "n4_s5_bfloat16", "n8_s3_float32"])
def test_step_sequences_are_exact_in_both_precisions(name: str) -> None:
    golden = golden_tensors("scheduler/scheduler.safetensors")
    latents, velocities = golden[f"seq_{name}.latents"], golden[f"seq_{name}.preds"]
    steps, shift = int(name[1]), float(name[4])
    sigmas = make_sigmas(steps, shift)
    for step in range(steps):
        moved = euler_step(latents[step], velocities[step], sigmas[step], sigmas[step + 1])
        assert torch.equal(moved, latents[step + 1])


@pytest.mark.parametrize(("steps", "shift"), [(0, 5.0), (-1, 5.0), (4, 0.0), (4, float("nan"))])
def test_impossible_schedules_are_refused(steps: int, shift: float) -> None:
    with pytest.raises(ScopeError):
        make_sigmas(steps, shift)
