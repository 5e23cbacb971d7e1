from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels import dispatch, product_table, product_torch
from scope_play.kernels.aot import SHARED_LIMIT
from scope_play.kernels.product_table import (
    CUBLAS,
    HOPPERS_TILES,
    SHIPPED,
    SPLIT_K,
    STREAM_K,
    TILES,
    ProductCut,
    Products,
    candidates,
    entry,
    load_table,
    load_tables,
    save_table,
    tiles_for,
)

KEY = entry("NVIDIA H200", "bfloat16", 390, 3072, 3072, "gate_add")
OTHER = entry("NVIDIA H200", "bfloat16", 390, 3072, 9216, "none")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "products.json"
    monkeypatch.setattr(product_table, "table_path", lambda: path)
    return path


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "shipped.json"
    monkeypatch.setattr(product_table, "SHIPPED", path)
    return path


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton as it stands on a machine with that card, but for where its counters lie."""
    product = pytest.importorskip("scope_play.kernels.product")
    monkeypatch.delenv("SCOPE_PLAY_KERNELS", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    monkeypatch.setattr(product, "make_counters", lambda device: torch.zeros(4, dtype=torch.int32))


def test_the_key_says_card_type_shape_and_what_follows() -> None:
    assert KEY == "NVIDIA H200 | bfloat16 | 390 x 3072 -> 3072 | gate_add"


def test_the_shipped_table_is_one() -> None:
    assert isinstance(load_table(SHIPPED), dict)


def test_tables_add_up_and_the_users_own_goes_first(own: Path, shipped: Path) -> None:
    assert load_tables(shipped, own) == {}
    save_table(shipped, {KEY: ProductCut(SPLIT_K, parts=3), OTHER: ProductCut(STREAM_K, parts=132)})
    save_table(own, {KEY: ProductCut(CUBLAS)})
    save_table(own, {"else": ProductCut(SPLIT_K, 64, 128, 64, 4, 4, 2)})
    assert load_tables(shipped, own) == {
        KEY: ProductCut(CUBLAS),
        OTHER: ProductCut(STREAM_K, parts=132),
        "else": ProductCut(SPLIT_K, 64, 128, 64, 4, 4, 2),
    }
    assert json.loads(own.read_text())[KEY] == {"way": "cublas"}
    assert [path.name for path in own.parent.iterdir()] == ["products.json"]


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"a": 1}', '{"a": {"way": "split-k", "rows": "x"}}', '{"a": {"x": 1}}']
)
def test_damaged_tables_are_named(own: Path, content: str) -> None:
    own.parent.mkdir()
    own.write_text(content)
    with pytest.raises(ScopeError, match=r"products.json is not a table of products .*; delete it or tune again"):
        load_table(own)


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        ({"way": "magic"}, r"products.json has 'magic' for 'a', but knows cublas, split-k, stream-k"),
        ({}, "has 'None' for 'a'"),
        ({"way": "split-k", "rows": 48}, "sizes for 'a' that are not powers of 2"),
        ({"way": "stream-k", "parts": 0}, "sizes for 'a'"),
    ],
)
def test_ways_and_sizes_that_no_kernel_has_are_named(own: Path, cut: dict[str, object], says: str) -> None:
    own.parent.mkdir()
    own.write_text(json.dumps({"a": cut}))
    with pytest.raises(ScopeError, match=says):
        load_table(own)


@pytest.mark.usefixtures("h200")
def test_select_takes_what_the_tables_name_for_this_card(own: Path, shipped: Path) -> None:
    assert dispatch.select("cuda", torch.bfloat16, heads=24, head_dim=128).products == Products()
    save_table(shipped, {entry("NVIDIA B200", "bfloat16", 390, 3072, 3072, "none"): ProductCut(SPLIT_K)})
    assert dispatch.select_products("cuda", torch.bfloat16) == Products()
    save_table(shipped, {KEY: ProductCut(SPLIT_K, parts=3)})
    save_table(own, {KEY: ProductCut(STREAM_K, parts=132)})
    chosen = dispatch.select("cuda", torch.bfloat16, heads=24, head_dim=128).products
    assert chosen.table == {KEY: ProductCut(STREAM_K, parts=132)}
    assert chosen.product is not None
    assert dispatch.select_products("cuda", torch.float64) == Products()


def test_where_no_kernel_runs_no_table_is_read(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.parent.mkdir()
    own.write_text("{")
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "torch")
    assert dispatch.select_products("cpu", torch.float32) == Products()


def test_only_what_the_table_names_is_fused() -> None:
    x, weight = torch.randn(1, 2, 3, 8), torch.randn(16, 8)
    residual, gate = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 1, 16)
    asked: list[ProductCut] = []

    def product(x: Tensor, weight: Tensor, bias: Tensor | None, *, cut: ProductCut, **then: object) -> Tensor:
        asked.append(cut)
        return product_torch.product(x, weight, bias, **then)  # type: ignore[arg-type]

    table = {
        entry("card", "float32", 6, 8, 16, "gate_add"): ProductCut(SPLIT_K, parts=2),
        entry("card", "float32", 6, 8, 16, "gelu"): ProductCut(CUBLAS),
    }
    products = Products("card", table, product)
    for then in ({}, {"gelu": True}, {"residual": residual}):
        assert products.fused(x, weight, None, **then) is None  # type: ignore[arg-type]
    assert products.fused(x[:, :1], weight, None, residual=residual[:, :1], gate=gate[:, :1]) is None
    assert products.fused(x.double(), weight.double(), None, residual=residual, gate=gate) is None
    assert asked == []
    made = products.fused(x, weight, None, residual=residual, gate=gate)
    assert asked == [ProductCut(SPLIT_K, parts=2)]
    torch.testing.assert_close(made, residual + gate * (x @ weight.T))
    assert Products().fused(x, weight, None) is None


def test_candidates_fit_the_card() -> None:
    for capability, shared in SHARED_LIMIT.items():
        tiles = tiles_for(capability, shared)
        assert set(HOPPERS_TILES) <= set(tiles) or capability != 90
        assert not set(HOPPERS_TILES) & set(tiles) or capability == 90
        for cut in candidates(390, 3072, 132, tiles):
            assert cut.shared() <= shared
            assert 1 <= cut.parts <= 8 or cut.way == STREAM_K
    few = {cut.parts for cut in candidates(390, 3072, 132, TILES[:1]) if cut.way == SPLIT_K}
    many = {cut.parts for cut in candidates(1560, 14336, 132, TILES[:1]) if cut.way == SPLIT_K}
    assert few == {1, 2, 3, 4, 5}
    assert many == {1}
