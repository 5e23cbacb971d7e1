"""The compiled form gives what the fused one gives, for the few rows that it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels.dispatch import VARIABLE, torch_kernels
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cpu_dit import FEW_ROWS, CompiledDiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.select import network_for_streaming
from tests.helpers.stream_cases import LIMIT, Clip, forced, lively, stream, tiny_config

TWINS = torch_kernels("a test")
FROM_PREVIOUS = {"prediction": "clean", "from_previous": True}


def rounded(network: DiT) -> DiT:
    """A lively network with the numbers of bfloat16 in its weights."""
    network = lively(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return network


def refuse(*args: Any) -> None:
    raise AssertionError("this pass should have been compiled")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    chunk=st.integers(1, 3),
    window=st.integers(2, 6),
    batch=st.integers(1, 2),
    heads=st.sampled_from([1, 2, 3]),
    from_previous=st.booleans(),
    modulates=st.booleans(),
    joint=st.booleans(),
)
def test_equals_the_fused_step(
    chunk: int, window: int, batch: int, heads: int, from_previous: bool, modulates: bool, joint: bool
) -> None:
    chunk = min(chunk, window, FEW_ROWS // batch // 2)
    changes = FROM_PREVIOUS if from_previous else {}
    config = tiny_config(heads=heads, action=ActionConfig(modulates=modulates), **changes)
    network = rounded(DiT(config))
    clip = Clip(batch, 1 + 6 // chunk * chunk, grid=(1, 1))
    cache = CacheConfig(window, chunk, joint=joint)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        plain = forced(FusedDiT(network, TWINS), clip, cache, None, None)
        patch.setattr(FusedDiT, "run", refuse)
        patch.setattr(FusedDiT, "_write_buttons", refuse)
        if modulates:
            patch.setattr(FusedDiT, "_modulate_by", refuse)
        ours = forced(CompiledDiT(network, TWINS), clip, cache, None, None)
    assert plain.std() > 0.1
    assert (plain - ours).abs().max() <= LIMIT * plain.abs().max()


@pytest.mark.parametrize(
    ("batch", "grid", "keep"),
    [(FEW_ROWS + 1, (1, 1), None), (2, (1, 2), None), (2, (1, 1), torch.tensor([0, 1]))],
    ids=["many rows", "two tokens", "without actions"],
)
def test_all_else_goes_the_fused_way(batch: int, grid: tuple[int, int], keep: torch.Tensor | None) -> None:
    network = rounded(DiT(tiny_config(action=ActionConfig(modulates=True))))
    clip, cache = Clip(batch, 5, grid=grid), CacheConfig(3, 1)
    with torch.no_grad():
        plain = stream(FusedDiT(network, TWINS), clip, cache, keep=keep)
        ours = stream(CompiledDiT(network, TWINS), clip, cache, keep=keep)
    assert (plain - ours).abs().max() <= LIMIT


def test_chosen_where_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    network = rounded(DiT(tiny_config()))
    chosen = network_for_streaming(network, latents=1)
    assert isinstance(chosen, CompiledDiT)
    assert "few rows are compiled" in chosen.kernels.reason
    others = {
        "weights that bfloat16 does not hold": lively(DiT(tiny_config()), seed=3),
        "text": rounded(DiT(tiny_config(text_dim=10))),
        "no actions": rounded(DiT(replace(tiny_config(), action=None))),
        "bfloat16": rounded(DiT(tiny_config())).bfloat16(),
    }
    for why, other in others.items():
        assert type(network_for_streaming(other, latents=1)) is FusedDiT, why
    monkeypatch.setenv(VARIABLE, "torch")
    assert type(network_for_streaming(rounded(DiT(tiny_config())), latents=1)) is FusedDiT
