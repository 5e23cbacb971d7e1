"""The Triton kernel against its twin, on a GPU or in the interpreter, for every way to cut and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.kernels import product_torch as twin
from scope_play.kernels.product_table import SPLIT_K, STREAM_K, ProductCut, candidates, tiles_for
from tests.helpers.kernel_cases import DTYPES, TOLERANCE, assert_close, poisoned_outputs

SMALL = ProductCut(SPLIT_K, rows=16, columns=32, inner=16, stages=2, warps=4)
EPILOGUES = ("none", "gelu", "add", "gate_add")


class Inputs:
    """A product of B x n x S rows; x and the residual are slices of wider tensors, as in a block."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], inner: int, columns: int, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator).to(device, dtype)

        self.x = normal(*shape, 2 * inner)[..., inner:]
        self.weight = (torch.randn(columns, inner + 16, generator=generator) / inner**0.5).to(device, dtype)[:, :inner]
        self.bias = normal(columns)
        self.residual = normal(*shape, 2 * columns)[..., :columns]
        self.gate = normal(1, shape[1], 1, columns)

    def epilogue(self, name: str) -> dict[str, Tensor | bool]:
        return {
            "none": {},
            "gelu": {"gelu": True},
            "add": {"residual": self.residual},
            "gate_add": {"residual": self.residual, "gate": self.gate},
        }[name]


@pytest.fixture(scope="module")
def counters(device: torch.device) -> Tensor:
    from scope_play.kernels.product import make_counters

    return make_counters(device)


cuts = st.one_of(
    st.builds(lambda parts: replace(SMALL, parts=parts), st.integers(1, 8)),
    st.builds(lambda parts: replace(SMALL, way=STREAM_K, parts=parts), st.integers(1, 40)),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    cut=cuts,
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9)),
    inner=st.sampled_from([8, 16, 100, 144]),
    columns=st.sampled_from([32, 40, 96]),
    epilogue=st.sampled_from(EPILOGUES),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_equals_its_twin(
    device: torch.device,
    counters: Tensor,
    cut: ProductCut,
    shape: tuple[int, int, int],
    inner: int,
    columns: int,
    epilogue: str,
    bias: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    """With outputs and workspace full of NaN, on counters that all products before have used."""
    from scope_play.kernels.product import product

    i = Inputs(device, dtype, shape, inner, columns, seed)
    shift, then = i.bias if bias else None, i.epilogue(epilogue)
    with poisoned_outputs():
        got = product(i.x, i.weight, shift, cut=cut, counters=counters, **then)  # type: ignore[arg-type]
        again = product(i.x, i.weight, shift, cut=cut, counters=counters, **then)  # type: ignore[arg-type]
    assert torch.equal(got, again)
    assert not counters.any()
    want = twin.product(i.x, i.weight, shift, **then)  # type: ignore[arg-type]
    # The rounded product may differ in its last place, which the gate multiplies.
    room = 1 + (float(i.gate.abs().max()) if epilogue == "gate_add" else 0)
    limit = room * TOLERANCE[dtype]
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, atol=limit, rtol=limit)


@pytest.mark.parametrize("way", [SPLIT_K, STREAM_K])
def test_who_comes_last_changes_no_bit(
    device: torch.device, counters: Tensor, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter's programs, last to first; on a GPU they come as they like."""
    from scope_play.kernels.product import divide, product

    i, cut = Inputs(device, torch.float32, (1, 2, 13), 144, 96, 0), replace(SMALL, way=way, parts=5)
    order: list[int] = []

    def made(backwards: bool) -> Tensor:
        import triton.runtime.interpreter as interpreter

        builder = interpreter.interpreter_builder
        set_grid, last = builder.set_grid_idx, divide(26, 144, 96, cut).programs - 1

        def turned(x: int, y: int, z: int) -> None:
            order.append(last - x if backwards else x)
            set_grid(order[-1], y, z)

        with monkeypatch.context() as patch:
            patch.setattr(builder, "set_grid_idx", turned)
            return product(i.x, i.weight, i.bias, cut=cut, counters=counters)

    forwards, backwards = made(False), made(True)
    assert torch.equal(forwards, backwards)
    if device.type == "cpu":
        assert order[: len(order) // 2] == order[len(order) // 2 :][::-1]
    assert not counters.any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cut=cuts, rows=st.integers(1, 60), inner=st.integers(1, 300), columns=st.integers(1, 200))
def test_every_step_is_someones(device: torch.device, cut: ProductCut, rows: int, inner: int, columns: int) -> None:
    """All steps are dealt out, no program comes away with none, and none has pieces of more than two tiles."""
    from scope_play.kernels.product import divide

    work = divide(rows, inner, columns, cut)
    steps = -(-inner // cut.inner)
    assert work.tiles == -(-rows // cut.rows) * -(-columns // cut.columns)
    assert (work.programs - 1) * work.share < work.tiles * work.units <= work.programs * work.share
    assert steps <= work.units < steps + work.share
    if cut.way == STREAM_K:
        assert work.units == steps
        assert work.programs <= cut.parts
    else:
        assert work.units % work.share == 0
        assert work.programs <= cut.parts * work.tiles


def test_every_candidate_at_its_own_size(device: torch.device, counters: Tensor) -> None:
    """Of what `--tune` tries on a card of three processors, three programs a tile, and three in all."""
    from scope_play.kernels.aot import SHARED_LIMIT
    from scope_play.kernels.product import product

    major, minor = torch.cuda.get_device_capability() if device.type == "cuda" else (9, 0)
    capability = 10 * major + minor
    i = Inputs(device, torch.bfloat16, (1, 1, 30), 192, 160, 1)
    want = twin.product(i.x, i.weight, i.bias, gelu=True)
    tried = candidates(30, 160, 3, tiles_for(capability, SHARED_LIMIT.get(capability, min(SHARED_LIMIT.values()))))
    tried = [cut for cut in tried if cut.parts == 3]
    assert {cut.way for cut in tried} == {SPLIT_K, STREAM_K}
    for cut in tried:
        got = product(i.x, i.weight, i.bias, cut=cut, counters=counters, gelu=True)
        assert_close(got, want, torch.bfloat16)
    assert not counters.any()


def test_what_does_not_fit_is_refused(device: torch.device, counters: Tensor) -> None:
    from scope_play.kernels.product import product

    i = Inputs(device, torch.float32, (1, 2, 3), 16, 32, 2)
    with pytest.raises(ValueError, match="does not fit input"):
        product(i.x[..., :8], i.weight, None, cut=SMALL, counters=counters)
    with pytest.raises(ValueError, match="does not fit the product"):
        product(i.x, i.weight, None, cut=SMALL, counters=counters, residual=i.residual[:, :1])
    with pytest.raises(ValueError, match="does not belong to tokens"):
        product(i.x, i.weight, None, cut=SMALL, counters=counters, residual=i.residual, gate=i.gate[..., :8])
    with pytest.raises(ValueError, match="but there are 0 counters"):
        product(i.x, i.weight, None, cut=SMALL, counters=counters[:0])
    with pytest.raises(RuntimeError, match="no backward"):
        product(i.x, i.weight.clone().requires_grad_(), None, cut=SMALL, counters=counters)
