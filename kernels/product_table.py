"""Which product serves which shape: torch's own, or `product` and how it cuts, measured once per card.

`scope-play bench products --tune` times the candidates on the machine at hand and writes the fastest to `products.json`
in the user's cache folder. A table of the same form lies in the repository, by card; the user's own goes before it. A
shape that neither names is torch's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from torch import Tensor

CUBLAS, SPLIT_K, STREAM_K = "cublas", "split-k", "stream-k"
WAYS = (CUBLAS, SPLIT_K, STREAM_K)
SHIPPED = Path(__file__).with_name("products.json")
TILES = ((128, 128, 64, 3, 8), (64, 128, 64, 4, 8), (64, 256, 64, 3, 8))
"""What candidates are made of: rows, columns and inner size of a tile, stages, warps."""
HOPPERS_TILES = ((128, 256, 64, 3, 8),)
"""Other architectures have not the registers for them."""
MOST_SPLITS = 8
WAVES = 4
"""Programs a processor that a split may make at most."""


@dataclass(frozen=True)
class ProductCut:
    """A way, and for those that are ours how it cuts.

    rows, columns, inner: of a tile, and of a step along the inner axis. stages: steps in flight. parts: programs a tile
    (split-k), or in all (stream-k).
    """

    way: str
    rows: int = 128
    columns: int = 128
    inner: int = 64
    stages: int = 3
    warps: int = 8
    parts: int = 1

    def shared(self, element: int = 2) -> int:
        """Bytes of shared memory for its steps in flight, of numbers of `element` bytes."""
        return (self.rows + self.columns) * self.inner * self.stages * element

    def __str__(self) -> str:
        if self.way == CUBLAS:
            return self.way
        return f"{self.way} {self.parts}, {self.rows}x{self.columns}"


TORCHS_OWN = ProductCut(CUBLAS)


def tiles_for(capability: int, shared: int, element: int = 2) -> list[tuple[int, int, int, int, int]]:
    """What a card of compute capability 80, 86 .. can run, with `shared` bytes for a program and such elements."""
    known = (*TILES, *(HOPPERS_TILES if capability == 90 else ()))
    return [tile for tile in known if ProductCut(SPLIT_K, *tile).shared(element) <= shared]


def candidates(
    rows: int, columns: int, processors: int, tiles: Sequence[tuple[int, int, int, int, int]]
) -> list[ProductCut]:
    """What is tried for one shape on a card with so many processors."""
    found = []
    for tile in tiles:
        count = -(-rows // tile[0]) * -(-columns // tile[1])
        most = max(1, min(MOST_SPLITS, WAVES * processors // count))
        found += [ProductCut(SPLIT_K, *tile, parts=parts) for parts in range(1, most + 1)]
        found += [ProductCut(STREAM_K, *tile, parts=programs) for programs in (processors, 2 * processors)]
    return found


EPILOGUES = ("none", "gelu", "add", "gate_add")


def epilogue(gelu: bool, residual: bool, gate: bool) -> str:
    """The table's word for what follows a product."""
    if gelu:
        return "gelu"
    if residual:
        return "gate_add" if gate else "add"
    return "none"


def entry(card: str, dtype: str, rows: int, inner: int, columns: int, epilogue: str) -> str:
    """The table's key for one product on one card."""
    return f"{card} | {dtype} | {rows} x {inner} -> {columns} | {epilogue}"


def table_path() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("scope-play") / "products.json"


def load_table(path: Path) -> dict[str, ProductCut]:
    """The table at `path`, empty if there is none. Raises ScopeError when it is not one."""
    if not path.exists():
        return {}
    try:
        table = {key: _read(cut) for key, cut in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ScopeError(f"{path} is not a table of products ({error}); delete it or tune again") from error
    for key, cut in table.items():
        if cut.way not in WAYS:
            raise ScopeError(f"{path} has {cut.way!r} for {key!r}, but knows {', '.join(WAYS)}; mend it or tune again")
        sizes = (cut.rows, cut.columns, cut.inner, cut.warps)
        if min(sizes) < 1 or any(size & (size - 1) for size in sizes) or min(cut.stages, cut.parts) < 1:
            raise ScopeError(f"{path} has sizes for {key!r} that are not powers of 2; mend it or tune again")
    return table


def _read(fields: Mapping[str, object]) -> ProductCut:
    numbers = {name: int(value) for name, value in fields.items() if name != "way"}  # type: ignore[call-overload]
    return ProductCut(str(fields.get("way")), **numbers)


def load_tables(shipped: Path, own: Path) -> dict[str, ProductCut]:
    """What is shipped, and over it the user's own."""
    return {**load_table(shipped), **load_table(own)}


def save_table(path: Path, found: Mapping[str, ProductCut]) -> None:
    """Adds `found` to the table at `path`."""
    table = {**load_table(path), **found}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".json.partial")
    beside.write_text(json.dumps(as_json(table), indent=2) + "\n", "utf-8")
    beside.replace(path)


def as_json(table: Mapping[str, ProductCut]) -> dict[str, dict[str, str | int]]:
    return {key: {"way": CUBLAS} if cut.way == CUBLAS else asdict(cut) for key, cut in sorted(table.items())}


@dataclass(frozen=True)
class Products:
    """The linears of one card that `product`, which has the kernel's arguments without `counters`, is to compute."""

    card: str = ""
    table: Mapping[str, ProductCut] = field(default_factory=dict)
    product: Callable[..., Tensor] | None = None

    def fused(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *,
        gelu: bool = False,
        residual: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor | None:
        """As the twin in `product_torch`; None where the table leaves it to torch, which is then up to the caller."""
        if self.product is None:
            return None
        columns, inner = weight.shape
        word = epilogue(gelu, residual is not None, gate is not None)
        dtype = str(x.dtype).removeprefix("torch.")
        cut = self.table.get(entry(self.card, dtype, x.numel() // inner, inner, columns, word), TORCHS_OWN)
        if cut.way == CUBLAS:
            return None
        return self.product(x, weight, bias, cut=cut, gelu=gelu, residual=residual, gate=gate)
