"""A block's linears: which there are, and that those of a table change nothing but who computes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scope_play.kernels.dispatch import torch_kernels
from scope_play.kernels.product_table import SPLIT_K, ProductCut, Products, entry
from scope_play.kernels.product_torch import product as twin
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.fused_linear import block_linears
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.quantize import quantise_blocks
from tests.helpers.stream_cases import LIMIT, Clip, lively, stream, tiny_config

CHUNK = CacheConfig(2, 2)
TEXT = {entry("card", "float32", rows, 48, 48, "add") for rows in (6, 12)}
"""The output of the text's attention, which is added as it is."""


class Everything(dict[str, ProductCut]):
    """A table that has every shape, and keeps the keys that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> ProductCut:  # type: ignore[override]
        self.asked.add(key)
        return ProductCut(SPLIT_K)


def by_twin(x: Tensor, weight: Tensor, bias: Tensor | None, *, cut: ProductCut, **then: object) -> Tensor:
    return twin(x, weight, bias, **then)  # type: ignore[arg-type]


def outputs(network: DiT, products: Products, keep: Tensor | None = None) -> Tensor:
    clip = Clip(1, 5)
    with torch.no_grad():
        text = network.text_keys(torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(0)))
        fused = FusedDiT(network, replace(torch_kernels("a test"), products=products))
        return stream(fused, clip, CHUNK, text=text, keep=keep)


def keys(config: DiTConfig, rows: int) -> set[str]:
    return {entry("card", "float32", rows, *shape[1:4]) for shape in block_linears(config)}


def test_the_list_of_linears_is_what_a_block_asks_for() -> None:
    config = tiny_config(layers=1, text_dim=6)
    network, table = lively(DiT(config)), Everything()
    fused = outputs(network, Products("card", table, by_twin))
    torch.testing.assert_close(fused, outputs(network, Products()), atol=LIMIT, rtol=LIMIT)
    # Chunks of one latent and of two, 6 tokens each; without the actions' `keep` as they are played.
    assert table.asked == keys(config, 6) | keys(config, 12)


def test_scope_has_six() -> None:
    shapes = block_linears(SCOPE_5B)
    assert {shape[1:4] for shape in shapes} == {
        (3072, 9216, "none"),
        (3072, 3072, "none"),
        (3072, 3072, "add"),
        (3072, 3072, "gate_add"),
        (3072, 14336, "gelu"),
        (14336, 3072, "gate_add"),
    }
    assert len(shapes) == 6


def test_actions_that_may_be_left_out_are_gated() -> None:
    config = tiny_config(layers=1, text_dim=6)
    network, keep = lively(DiT(config)), torch.zeros(1)
    table = Everything()
    left_out = outputs(network, Products("card", table, by_twin), keep)
    torch.testing.assert_close(left_out, outputs(network, Products(), keep), atol=LIMIT, rtol=LIMIT)
    assert (left_out - outputs(network, Products())).abs().max() > 0.1
    assert not any(key.endswith("add") and not key.endswith("gate_add") for key in table.asked - TEXT)


def test_linears_in_8_bits_are_left_alone() -> None:
    config = tiny_config(layers=1, text_dim=6)
    network = lively(DiT(config))
    quantise_blocks(network, "int8")
    table = Everything()
    outputs(network, Products("card", table, by_twin))
    # The stick MLP's first layer alone stays in full.
    assert table.asked == {entry("card", "float32", rows, 48, 48, "none") for rows in (6, 12)}


@pytest.mark.parametrize("text_dim", [None, 6])
def test_an_empty_table_leaves_the_modules_as_they_are(text_dim: int | None) -> None:
    network = lively(DiT(tiny_config(layers=1, text_dim=text_dim)))
    fused = FusedDiT(network, torch_kernels("a test"))
    block = fused.blocks[0]
    assert block.ffn is network.blocks[0].ffn
    assert torch_kernels("").products == Products()
    assert not any("product" in name for name, _ in fused.named_modules())
