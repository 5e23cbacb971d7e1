"""The Triton kernel against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels import pixel_attention_torch as twin
from scope_play.kernels.fp8 import Remembered, Rounded, round_rows, widen
from scope_play.kernels.tuning import Cut, candidates
from tests.helpers.kernel_cases import Draw, assert_close, draws, on, poisoned_outputs


@settings(max_examples=25, deadline=None, derandomize=True)
@given(draw=draws(), cut=st.sampled_from(candidates("pixel_attention")))
def test_equals_its_twin(device: torch.device, draw: Draw, cut: Cut) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    draw, rotation = on(draw, device), draw.rotation()
    (k_cache, v_cache), (k_twin, v_twin) = draw.caches(), draw.caches()
    inputs = (draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, rotation)
    with poisoned_outputs():
        got = pixel_attention(*inputs, k_cache, v_cache, draw.valid, cut=cut)
    want = twin.pixel_attention(*inputs, k_twin, v_twin, draw.valid)
    assert_close(got, want, draw.dtype)
    used = slice(0, draw.valid)
    assert_close(k_cache[:, used], k_twin[:, used], draw.dtype)
    assert torch.equal(v_cache[:, used], v_twin[:, used])
    assert k_cache[:, draw.valid :].isnan().all()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(draw=draws(), cut=st.sampled_from(candidates("pixel_attention")))
def test_slots_remembered_in_8_bits(device: torch.device, draw: Draw, cut: Cut) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    draw, rotation = on(draw, device), draw.rotation()
    remembered = Remembered(*(round_rows(cache[:, draw.latents :]) for cache in draw.caches()))
    own = tuple(cache[:, : draw.latents] for cache in draw.caches())
    own_twin = tuple(cache.clone() for cache in own)
    inputs = (draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, rotation)
    with poisoned_outputs():
        got = pixel_attention(*inputs, *own, draw.valid, remembered=remembered, cut=cut)
    want = twin.pixel_attention(*inputs, *own_twin, draw.valid, remembered=remembered)
    assert_close(got, want, draw.dtype)
    for mine, theirs in zip(own, own_twin, strict=True):
        assert_close(mine, theirs, draw.dtype)
    # The same as attention over the numbers that the 8 bits stand for.
    k_cache, v_cache = (
        torch.cat([torch.zeros_like(draw.k_cache[:, : draw.latents]), widen(past, draw.dtype)], 1)
        for past in remembered
    )
    assert_close(got, twin.pixel_attention(*inputs, k_cache, v_cache, draw.valid), draw.dtype)


def test_every_number_of_8_bits(device: torch.device) -> None:
    """All finite e4m3 numbers, subnormal ones too, as values of one key whose weight is 1."""
    from scope_play.kernels.pixel_attention import pixel_attention

    bits = torch.arange(256, dtype=torch.uint8)
    numbers = bits[(bits & 0x7F) != 0x7F].view(torch.float8_e4m3fn)
    values = torch.cat([numbers, numbers[:2]]).view(1, 1, 2, 1, 128).to(device)
    keys = torch.full(values.shape, 8.0).to(values)
    scale = torch.full((1, 1, 2, 1, 1), 3.0, device=device)
    x, weight = torch.full((1, 1, 2, 128), 4.0, device=device), torch.full((128,), 9.0, device=device)
    still = torch.ones(1, 1, 1, 1, 64, device=device), torch.zeros(1, 1, 1, 1, 64, device=device)
    own = torch.zeros(1, 1, 2, 1, 128, device=device), torch.zeros(1, 1, 2, 1, 128, device=device)
    # Its own key scores far below the remembered one, whose weight is then exactly 1.
    remembered = Remembered(Rounded(keys, scale), Rounded(values, scale))
    got = pixel_attention(x, x, x, weight, -weight, still, *own, 2, remembered=remembered)
    # A GPU divides by the sum of weights to within two units in the last place.
    torch.testing.assert_close(got.view(-1), 3 * values.float().view(-1), rtol=3e-7, atol=0)


def test_refuses_gradients(device: torch.device) -> None:
    from scope_play.kernels.pixel_attention import pixel_attention

    x = torch.randn(1, 1, 1, 16, device=device, requires_grad=True)
    cache = torch.zeros(1, 2, 1, 1, 16, device=device)
    weight, angle = torch.ones(16, device=device), torch.ones(1, 1, 1, 1, 8, device=device)
    with pytest.raises(RuntimeError, match="no backward"):
        pixel_attention(x, x, x, weight, weight, (angle, angle), cache, cache.clone(), 1)
