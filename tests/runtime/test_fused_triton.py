"""The fused step with the Triton kernels in the interpreter; tests/kernels/test_interpreter.py runs this file so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scope_play.kernels import product_table, select
from scope_play.kernels.dispatch import VARIABLE, torch_kernels
from scope_play.kernels.product_table import SPLIT_K, STREAM_K, ProductCut, Products, entry, save_table
from scope_play.model.dit.dit import DiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.fused_linear import block_linears
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.plain_dit import PlainDiT
from tests.helpers.stream_cases import Clip, lively, stream, tiny_config

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(not INTERPRETING, reason="needs TRITON_INTERPRET=1; tests/kernels/test_interpreter.py sets it")
def test_equals_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "triton")
    config = tiny_config(dim=32, layers=1, text_dim=6, prediction="clean", from_previous=True)
    network, clip, cache = lively(DiT(config)), Clip(1, 5), CacheConfig(2, 2)
    kernels = select("cpu", torch.float32, heads=config.heads, head_dim=config.head_dim, latents=2)
    assert kernels.backend == "triton"
    with torch.no_grad():
        text = network.text_keys(torch.randn(1, 3, 6))
        plain = stream(PlainDiT(network), clip, cache, text=text, keep=torch.ones(1))
        ours = stream(FusedDiT(network, kernels), clip, cache, poison=float("nan"), text=text, keep=torch.ones(1))
    torch.testing.assert_close(ours, plain, atol=5e-5, rtol=1e-4)


@pytest.mark.skipif(not INTERPRETING, reason="needs TRITON_INTERPRET=1; tests/kernels/test_interpreter.py sets it")
@pytest.mark.parametrize(("way", "kept"), [(SPLIT_K, True), (STREAM_K, False)])
def test_products_of_a_table_equal_those_of_torch(
    way: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's table that names a kernel for every linear of a block, for chunks of one latent and of two."""
    monkeypatch.setenv(VARIABLE, "triton")
    monkeypatch.setattr(product_table, "table_path", lambda: tmp_path / "products.json")
    config = tiny_config(dim=32, layers=1, text_dim=6, prediction="clean", from_previous=True)
    cut = ProductCut(way, rows=16, columns=32, inner=16, stages=2, warps=4, parts=3)
    named = {entry("cpu", "float32", rows, *shape[1:4]): cut for rows in (6, 12) for shape in block_linears(config)}
    save_table(tmp_path / "products.json", named)
    kernels = select("cpu", torch.float32, heads=config.heads, head_dim=config.head_dim, latents=2)
    assert kernels.products.table == named
    call, calls = kernels.products.product, []

    def counted(*args: Tensor, **then: object) -> Tensor:
        assert call is not None
        calls.append(then)
        return call(*args, **then)

    network, clip, cache, twins = lively(DiT(config)), Clip(1, 3), CacheConfig(2, 2), torch_kernels("all others")
    keep = torch.ones(1) if kept else None
    with torch.no_grad():
        text = network.text_keys(torch.randn(1, 3, 6))
        made = [
            stream(FusedDiT(network, replace(twins, products=products)), clip, cache, text=text, keep=keep)
            for products in (Products(), replace(kernels.products, product=counted))
        ]
    assert len(calls) == 2 * 2 * 12  # two passes over each of two chunks, through twelve linears
    torch.testing.assert_close(*made, atol=5e-5, rtol=1e-4)
    assert not call.keywords["counters"].any()  # type: ignore[union-attr]
