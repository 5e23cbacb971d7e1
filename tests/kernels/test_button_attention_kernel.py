"""The Triton kernel against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels import button_attention_torch as twin
from scope_play.kernels.tuning import Cut, candidates
from tests.helpers.kernel_cases import Draw, assert_close, draws, on, poisoned_outputs


@settings(max_examples=25, deadline=None, derandomize=True)
@given(draw=draws(shared=True), cut=st.sampled_from(candidates("button_attention")))
def test_equals_its_twin(device: torch.device, draw: Draw, cut: Cut) -> None:
    from scope_play.kernels.button_attention import button_attention

    draw, rotation = on(draw, device), draw.rotation()
    k_cache, v_cache = draw.caches()
    inputs = (draw.q, draw.q_weight, rotation, k_cache, v_cache)
    with poisoned_outputs():
        got = button_attention(*inputs, draw.valid, cut=cut)
    assert_close(got, twin.button_attention(*inputs, draw.valid), draw.dtype)
