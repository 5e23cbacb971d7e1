from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scope_play.bench.block_errors import block_errors, trace_blocks
from scope_play.errors import ScopeError
from scope_play.kernels.fp8 import round_rows
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime import quantize
from scope_play.runtime.quantize import (
    QuantLinear,
    fp8_linear,
    int8_linear,
    quantise_blocks,
    to_int8,
)

SMALL = DiTConfig(
    dim=64,
    layers=3,
    heads=2,
    ffn_dim=128,
    in_channels=8,
    out_channels=8,
    text_dim=32,
    freq_dim=32,
    action=ActionConfig(),
    causal=True,
)


@pytest.fixture
def network() -> DiT:
    torch.manual_seed(0)
    return DiT(SMALL).eval()


@pytest.fixture
def run(network: DiT) -> Callable[[], Tensor]:
    latents = torch.randn(1, 8, 3, 4, 4)
    context, buttons, sticks = torch.randn(1, 5, 32), torch.rand(1, 8, 6).round(), torch.randn(1, 8, 4)
    timesteps = torch.full((1, 1), 500.0)
    return lambda: network(latents, timesteps, context=context, buttons=buttons, sticks=sticks)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.integers(1, 5), columns=st.integers(1, 40), exponent=st.integers(-30, 30), seed=st.integers(0, 2**31))
def test_rounding_is_within_half_a_step(rows: int, columns: int, exponent: int, seed: int) -> None:
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    x[0] = 0
    largest = x.abs().amax(-1, keepdim=True)
    data, scale = to_int8(x)
    assert ((data.float() * scale - x).abs() <= largest / 127 * 0.5001).all()
    data, scale = round_rows(x)
    # e4m3: four significant bits, and a floor 2^-9 steps below 448 where numbers are subnormal.
    assert ((data.float() * scale - x).abs() <= x.abs() / 16 + largest / 448 * 2.0**-10).all()


@pytest.mark.parametrize(("make", "limit"), [(fp8_linear, 0.05), (int8_linear, 0.01)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_close_to_the_original(make: Callable[[nn.Linear], QuantLinear], limit: float, bias: bool) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(48, 32, bias=bias)
    x = torch.randn(2, 3, 5, 48)
    got, want = make(linear)(x), linear(x)
    assert got.shape == want.shape
    assert 0 < (got - want).norm() / want.norm() < limit
    narrow = make(linear.to(torch.bfloat16))
    assert narrow(x.to(torch.bfloat16)).dtype == torch.bfloat16
    assert narrow.weight.dtype == torch.bfloat16


def test_only_the_large_linears_in_blocks_change(network: DiT) -> None:
    before = sum(p.nbytes for p in network.parameters())
    saved = quantise_blocks(network, "int8")
    kept = {name for name, module in network.blocks[0].named_modules() if isinstance(module, nn.Linear)}
    assert kept == {"action_attn.mouse_mlp.0", "action_attn.keyboard_embed.0", "action_attn.keyboard_embed.2"}
    assert isinstance(network.get_submodule("blocks.2.ffn.0"), QuantLinear)
    assert not any(isinstance(module, QuantLinear) for module in network.head.modules())
    after = sum(t.nbytes for t in (*network.parameters(), *network.buffers()))
    assert before - after == saved > 0


@pytest.mark.parametrize(("precision", "limit"), [("fp8", 0.06), ("int8", 0.012)])
def test_errors_are_reported_for_each_block(
    network: DiT, run: Callable[[], Tensor], precision: str, limit: float
) -> None:
    original = trace_blocks(network, run)
    want = run()
    assert len(original) == SMALL.layers
    quantise_blocks(network, precision)
    errors = block_errors(network, original, run)
    assert all(0 < error.alone < limit for error in errors)
    # The first block differs by the button keys, which come in from outside the block.
    assert errors[0].alone == pytest.approx(errors[0].accumulated, rel=0.3)
    assert errors[-1].accumulated > errors[0].accumulated
    assert (run() - want).norm() / want.norm() < 3 * limit


def test_bf16_changes_nothing_and_others_are_refused(network: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quantise_blocks(network, "bf16") == 0
    assert not any(isinstance(module, QuantLinear) for module in network.modules())
    with pytest.raises(ScopeError, match="'int4' is not known; use one of bf16, fp8, int8"):
        quantise_blocks(network, "int4")


def test_fp8_is_refused_where_the_gpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(nn.Module):
        def parameters(self, recurse: bool = True) -> object:  # type: ignore[override]
            return iter([type("Weight", (), {"device": torch.device("cuda")})()])

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "RTX 3090")
    with pytest.raises(ScopeError, match=r"RTX 3090 has \(8, 6\); use int8"):
        quantise_blocks(Elsewhere(), "fp8")


def test_gpu_products_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of the matrix product, with a stand-in for the one that only GPUs have."""

    def scaled_mm(
        a: Tensor,
        b: Tensor,
        scale_a: Tensor,
        scale_b: Tensor,
        out_dtype: torch.dtype,
        use_fast_accum: bool,
        bias: Tensor | None = None,
    ) -> Tensor:
        assert a.dtype == b.dtype == torch.float8_e4m3fn
        assert a.stride(1) == b.stride(0) == 1
        assert use_fast_accum
        assert scale_a.shape in ((a.shape[0], 1), ())
        assert scale_b.shape in ((1, b.shape[1]), ())
        out = (a.float() * scale_a) @ (b.float() * scale_b)
        return (out if bias is None else out + bias).to(out_dtype)

    monkeypatch.setattr(torch, "_scaled_mm", scaled_mm)
    torch.manual_seed(2)
    for bias in (None, torch.randn(32)):
        x, (data, scale) = torch.randn(2, 5, 48), round_rows(torch.randn(32, 48))
        want = quantize._fp8_reference(x, data, scale, bias)
        torch.testing.assert_close(quantize._fp8_scaled_after(x, data, scale, bias), want, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(quantize._fp8_scaled_inside(x, data, scale, bias), want, atol=2e-2, rtol=1e-2)
