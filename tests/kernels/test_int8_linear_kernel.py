"""The Triton kernel against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels import int8_linear_torch as twin
from tests.helpers.kernel_cases import DTYPES, assert_close, poisoned_outputs


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 70),
    inner=st.sampled_from([16, 48, 64, 80, 144]),
    columns=st.sampled_from([16, 128, 144]),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_equals_its_twin(
    device: torch.device, rows: int, inner: int, columns: int, bias: bool, dtype: torch.dtype, seed: int
) -> None:
    from scope_play.kernels.int8_linear import int8_linear

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, rows, 2 * inner, generator=generator).to(device, dtype)[..., :inner]
    data = torch.randint(-127, 128, (columns, inner), generator=generator, dtype=torch.int8).to(device)
    scale = (torch.rand(columns, 1, generator=generator) / 127 / inner**0.5).to(device)
    shift = torch.randn(columns, generator=generator).to(device, dtype) if bias else None
    with poisoned_outputs():
        got = int8_linear(x, data, scale, shift)
    assert_close(got, twin.int8_linear(x, data, scale, shift), dtype)
