"""The figures of `scope-play bench gpu` beside the floor of this GPU and those of the last run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

TOKENS = 390
"""Of a latent of 480x832."""


@dataclass(frozen=True)
class Figure:
    """Where a part's file says what counts. `floor` names an entry of `floors`, if there is one for it."""

    part: str
    file: str
    label: str
    unit: str
    path: tuple[str | int, ...]
    floor: str = ""


def _chunk(part: str, label: str) -> Figure:
    return Figure(part, "stream", f"a chunk, {label}", "ms", ("session", "chunk_ms", "p50"))


FIGURES = (
    _chunk("stream chunk 1", "full decoder"),
    Figure("stream chunk 1", "stream", "a pass", "ms", ("session", "pass_ms", "p50"), "pass"),
    Figure("stream chunk 1", "stream", "the commit", "ms", ("session", "commit_ms", "p50")),
    Figure("stream chunk 1", "stream", "the first tenth's chunks", "ms", ("session", "marks", 0, "chunk_ms")),
    Figure("decode", "decode", "the full decoder, a latent", "ms", ("decoders", 0, "median_ms"), "decoder"),
    Figure("decode", "decode", "beside its layers written down", "x", ("decoders", 0, "of_literal")),
    Figure("products", "products", "a block's linears, torch's own", "us", ("block_us", "1", "torch")),
    Figure("products", "products", "a block's linears, the fastest", "us", ("block_us", "1", "fastest")),
    _chunk("stream tiny decoder", "tiny decoder"),
    Figure("stream tiny decoder", "stream", "its pass, with those", "ms", ("session", "pass_ms", "p50"), "pass"),
    _chunk("stream fp8", "fp8 weights"),
    _chunk("stream int8", "int8 weights"),
    _chunk("stream chunk 3", "three latents"),
    _chunk("stream fp8 cache", "caches in fp8"),
    _chunk("stream 16 steps", "16 steps"),
    Figure("kernels", "kernels", "mouse kernel, one latent", "us", ("lines", 0, "median_us")),
    Figure("kernels chunk 3", "kernels", "mouse kernel, three latents", "us", ("lines", 0, "median_us")),
    Figure("clip none", "clip", "a clip of 81 frames", "s", ("clip_seconds",)),
    Figure("clip none", "clip", "its memory", "GiB", ("peak_gib",)),
    Figure("clip blocks", "clip", "its memory, blocks offloaded", "GiB", ("peak_gib",)),
)


def read_figures(folder: Path) -> dict[Figure, float]:
    """Those that `folder` has: of each part a folder with its file, or one file by the part's name."""
    found = {}
    for figure in FIGURES:
        part = figure.part.replace(" ", "-")
        for place in (folder / part / f"{figure.file}.json", folder / f"{part}.json"):
            value = _value(place, figure.path)
            if value is not None:
                found[figure] = value
                break
    return found


def _value(file: Path, path: tuple[str | int, ...]) -> float | None:
    try:
        value: Any = json.loads(file.read_text("utf-8"))
        for step in path:
            value = value[step]
        return None if value is None else float(value)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # a part that was not run, or wrote nothing


def floors(gpu: str | None) -> Mapping[str, float]:
    """Milliseconds, of the GPU that torch calls `gpu`; empty for one that `bench roofline` does not know."""
    from scope_play.bench.costs import GPUS
    from scope_play.bench.decoder_roofline import decoder_costs
    from scope_play.bench.roofline import Workload, pass_costs
    from scope_play.model.dit.config import SCOPE_5B

    known = next((GPUS[name] for name in GPUS if name in (gpu or "").lower()), None)
    if known is None:
        return {}
    one_pass, decoder = pass_costs(SCOPE_5B, Workload(tokens=TOKENS)), decoder_costs()
    return {
        "pass": 1e3 * sum(cost.seconds(known) for cost in one_pass),
        "decoder": 1e3 * sum(cost.seconds(known) for cost in decoder),
    }


def table(now: Mapping[Figure, float], before: Mapping[Figure, float], floor: Mapping[str, float]) -> Table:
    """What was measured; the last run's and the floor where they are known."""
    from rich.table import Table

    made = Table("", box=None, pad_edge=False)
    for name in ("now", "last run", "now / last", "floor"):
        made.add_column(name, justify="right")
    for figure in FIGURES:
        if figure not in now:
            continue
        value, last, least = now[figure], before.get(figure), floor.get(figure.floor)
        made.add_row(
            figure.label,
            f"{value:.3g} {figure.unit}",
            "" if last is None else f"{last:.3g}",
            "" if not last else f"{value / last:.2f}",
            "" if least is None else f"{least:.3g}",
        )
    return made
