"""The Triton kernel against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import torch
from hypothesis import given, settings

from scope_play.kernels import norm_rope_torch as twin
from tests.helpers.kernel_cases import Draw, assert_close, draws, on, poisoned_outputs


@settings(max_examples=20, deadline=None, derandomize=True)
@given(draw=draws())
def test_equals_its_twin(device: torch.device, draw: Draw) -> None:
    from scope_play.kernels.norm_rope import norm_rope

    draw, rotation = on(draw, device), draw.rotation(draw.tokens)
    (k_cache, v_cache), (k_twin, v_twin) = draw.caches(), draw.caches()
    inputs = (draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, rotation)
    with poisoned_outputs():
        got = norm_rope(*inputs, k_cache, v_cache)
    want = twin.norm_rope(*inputs, k_twin, v_twin)
    assert_close(got, want, draw.dtype)
    used = slice(0, draw.valid)
    assert_close(k_cache[:, used], k_twin[:, used], draw.dtype)
    assert torch.equal(v_cache[:, used], v_twin[:, used])
