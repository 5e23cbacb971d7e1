"""The autoencoder's norm, gain and SiLU against its twin, on a GPU or in the interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels import norm_silu_torch as twin
from tests.helpers.kernel_cases import DTYPES, assert_close

SIZES = st.tuples(*(st.integers(1, high) for high in (2, 70, 3, 4, 5)))


def poisoned_window(shape: tuple[int, ...], history: int, like: torch.Tensor) -> torch.Tensor:
    """Room for `history` more frames than `shape` has, all of it NaN."""
    b, c, t, h, w = shape
    window = torch.full((b, c, history + t, h, w), torch.nan, dtype=like.dtype, device=like.device)
    return window.contiguous(memory_format=torch.channels_last_3d)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shape=SIZES,
    history=st.integers(0, 2),
    dtype=st.sampled_from(DTYPES),
    lies_otherwise=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_its_twin(
    device: torch.device,
    shape: tuple[int, ...],
    history: int,
    dtype: torch.dtype,
    lies_otherwise: bool,
    seed: int,
) -> None:
    from scope_play.kernels.norm_silu import norm_silu

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).to(device, dtype)
    x[..., :1] *= 30  # SiLU is steep here and flat there
    gain = torch.randn(shape[1], generator=generator).to(device, dtype)
    if not lies_otherwise:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    got, expected = (poisoned_window(shape, history, x) for _ in range(2))
    norm_silu(x, gain, got[:, :, history:])
    twin.norm_silu(x, gain, expected[:, :, history:])
    assert_close(got[:, :, history:], expected[:, :, history:], dtype)
    assert got[:, :, :history].isnan().all()  # what is remembered is not touched


def test_the_twin_is_what_it_says() -> None:
    x, gain = torch.randn(2, 8, 3, 4, 5), torch.randn(8)
    out = torch.empty_like(x, memory_format=torch.channels_last_3d)
    twin.norm_silu(x, gain, out)
    torch.testing.assert_close(out, F.silu(F.normalize(x, dim=1) * gain.view(-1, 1, 1, 1)), rtol=0, atol=1e-6)
    zeros = torch.zeros_like(x)
    twin.norm_silu(zeros, gain, out)
    assert torch.equal(out, zeros)


def test_what_it_cannot_write_is_refused(device: torch.device) -> None:
    from scope_play.kernels.norm_silu import norm_silu

    x, gain = torch.randn(1, 8, 2, 3, 3, device=device), torch.ones(8, device=device)
    with pytest.raises(ValueError, match="channels-last"):
        norm_silu(x, gain, torch.empty_like(x))
    with pytest.raises(ValueError, match="7 gains"):
        norm_silu(x, gain[:7], torch.empty_like(x, memory_format=torch.channels_last_3d))
