"""The optimiser: orthogonal updates, AdamW's first step, and state that survives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scope_play.train.optim.muon import MuonAdamW, OptimiserConfig, hidden_matrices, orthogonalise


def test_orthogonalise_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 16), (2, 8, 24), (2, 24, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.shape[-1] == min(shape[1:])
        assert 0.5 < values.min() <= values.max() < 1.35


def test_orthogonalise_keeps_singular_directions() -> None:
    torch.manual_seed(0)
    matrix = torch.diag(torch.tensor([3.0, 1.0, 2.0]))[None]
    result = orthogonalise(matrix)[0]
    assert torch.equal(result.diagonal() > 0.5, torch.ones(3, dtype=torch.bool))
    assert (result - torch.diag(result.diagonal())).abs().max() < 0.05


def test_first_adamw_step_is_the_rate_against_the_sign() -> None:
    vector = nn.Parameter(torch.tensor([1.0, -2.0]))
    config = OptimiserConfig(lr=0.1, adam_scale=0.5, warmup=1, max_norm=1e9)
    MuonAdamW({"bias": vector}, [], config).update({"bias": torch.tensor([5.0, -0.01])}, 0)
    torch.testing.assert_close(vector.detach(), torch.tensor([0.95, -1.95]), atol=1e-5, rtol=0)


def test_both_halves_go_downhill_and_clip() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
    parameters = dict(model.named_parameters())
    optimiser = MuonAdamW(parameters, hidden_matrices(model, ("0.", "2.")), OptimiserConfig(lr=0.02, warmup=5))
    x = torch.randn(64, 8)
    losses = []
    for step in range(60):
        loss = (model(x) - x.roll(1, 1)).square().mean()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = optimiser.update(dict(zip(parameters, gradients, strict=True)), step)
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]
    assert norm > 0


def test_hidden_matrices_leave_out_vectors_and_other_modules() -> None:
    model = nn.ModuleDict({"blocks": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    assert hidden_matrices(model, ("blocks.",)) == ["blocks.weight"]


def test_the_rate_rises_and_falls() -> None:
    config = OptimiserConfig(lr=0.1, warmup=4, decay=(10, 20))
    rates = [config.rate(step) for step in range(25)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4:11] == pytest.approx([0.1] * 7)
    assert rates[11:21] == pytest.approx([0.01 * (9 - step) for step in range(10)])
    assert rates[20:] == [0] * 5
    assert OptimiserConfig(lr=0.1).rate(10**6) == 0.1
    with pytest.raises(ValueError, match="later step"):
        OptimiserConfig(decay=(5, 5))
