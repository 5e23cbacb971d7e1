"""The Triton kernel against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draw, assert_close, draws, on, poisoned_outputs

from scope_play.kernels import pixel_attention_torch as twin
from scope_play.kernels.tuning import Cut, candidates


@settings(max_examples=25, deadline=None, derandomize=True)
@given(draw=draws(), on_device=st.booleans(), cut=st.sampled_from(candidates("pixel_attention")))
def test_equals_its_twin(device: torch.device, draw: Draw, on_device: bool, cut: Cut) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    draw, rotation = on(draw, device), draw.rotation()
    (k_cache, v_cache), (k_twin, v_twin) = draw.caches(), draw.caches()
    inputs = (draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, rotation)
    with poisoned_outputs():
        got = pixel_attention(*inputs, k_cache, v_cache, draw.valid_tensor() if on_device else draw.valid, cut=cut)
    want = twin.pixel_attention(*inputs, k_twin, v_twin, draw.valid)
    assert_close(got, want, draw.dtype)
    used = slice(0, draw.valid)
    assert_close(k_cache[:, used], k_twin[:, used], draw.dtype)
    assert torch.equal(v_cache[:, used], v_twin[:, used])
    assert k_cache[:, draw.valid :].isnan().all()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(draw=draws())
def test_without_write_the_cache_is_only_read(device: torch.device, draw: Draw) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    draw, rotation = on(draw, device), draw.rotation()
    k_cache, v_cache = draw.caches()
    inputs = (draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, rotation)
    dry = pixel_attention(*inputs, k_cache, v_cache, draw.valid, write=False)
    assert k_cache[:, : draw.latents].isnan().all()
    assert torch.equal(dry, pixel_attention(*inputs, k_cache, v_cache, draw.valid))


def test_refuses_gradients(device: torch.device) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    x = torch.randn(1, 1, 1, 16, device=device, requires_grad=True)
    cache = torch.zeros(1, 2, 1, 1, 16, device=device)
    weight, angle = torch.ones(16, device=device), torch.ones(1, 1, 1, 1, 8, device=device)
    with pytest.raises(RuntimeError, match="no backward"):
        pixel_attention(x, x, x, weight, weight, (angle, angle), cache, cache.clone(), 1)
