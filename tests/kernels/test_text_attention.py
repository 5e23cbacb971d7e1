"""Zero padding as few weighted keys: exact in every type, alone and in the network."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.kernels.attention import sdpa
from scope_play.kernels.text_attention import BUCKETS, collapse_padding, padding_biases, shorten


@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(0, 512), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_weights_of_the_padding_add_up(count: int, dtype: torch.dtype) -> None:
    biases = padding_biases(count, dtype)
    assert sum(map(math.exp, biases)) == pytest.approx(count, rel=2e-5)
    assert all(float(torch.tensor(bias).to(dtype)) == bias for bias in biases)
    assert len(biases) <= min(count, {torch.float32: 1, torch.float16: 2, torch.bfloat16: 4}[dtype])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data(), batch=st.integers(1, 3), total=st.integers(1, 40))
def test_collapsed_padding_is_exact(data: st.DataObject, batch: int, total: int) -> None:
    lengths = data.draw(st.lists(st.integers(0, total), min_size=batch, max_size=batch))
    needed = min(total, max(lengths) + 1)
    keys = data.draw(st.one_of(st.none(), st.integers(needed, total)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    context = torch.randn(batch, total, 6, generator=generator)
    for row, length in zip(context, lengths, strict=True):
        row[length:] = 0
    project = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    bias_k, bias_v = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    q = torch.randn(batch, 5, 2, 4, generator=generator, dtype=torch.float64)

    def keys_values(x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.gelu(x.double() + 0.3)
        return (x @ project[0] + bias_k).unflatten(-1, (2, 4)), (x @ project[1] + bias_v).unflatten(-1, (2, 4))

    short, bias = collapse_padding(context, lengths, keys)
    assert short.shape[1] == (needed if keys is None else keys)
    got = sdpa(q, *keys_values(short), bias[:, None, None, :].double())
    # float32 holds log n to 1e-7; everything else is float64.
    torch.testing.assert_close(got, sdpa(q, *keys_values(context)), atol=1e-6, rtol=1e-6)


def test_collapse_refuses_what_does_not_fit() -> None:
    context = torch.zeros(1, 8, 4)
    with pytest.raises(ValueError, match=r"\[9\]"):
        collapse_padding(context, [9])
    with pytest.raises(ValueError, match="keys is 3"):
        collapse_padding(context, [3], keys=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("length", "keys"), [(0, 64), (60, 64), (63, None), (64, 128), (100, 128), (300, 512), (512, 512)]
)
def test_prompts_come_in_few_lengths(dtype: torch.dtype, length: int, keys: int | None) -> None:
    context = torch.zeros(1, 512, 3, dtype=dtype)
    context[:, :length] = 1
    short, bias = shorten(context)
    assert short.shape[1] == (keys or (64 if dtype == torch.float32 else 128))
    assert (bias is None) == (short.shape[1] == 512)
    assert short.shape[1] in BUCKETS


def test_short_contexts_stay_as_they_are() -> None:
    context = torch.zeros(2, 7, 3)
    short, bias = shorten(context)
    assert short is context
    assert bias is None


def test_a_zero_inside_a_prompt_is_no_padding() -> None:
    context = torch.zeros(1, 512, 3)
    context[:, 70] = 1
    short, bias = shorten(context)
    assert short.shape[1] == 128
    assert bias is not None
    assert (bias[0, :71] == 0).all()
    assert float(bias[0, 71]) == pytest.approx(math.log(512 - 71))
