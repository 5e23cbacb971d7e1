"""`scope-play bench products`: the linears of a block, which few rows make slow, by every way that can compute them.

Each with what follows it, since some ways have that in the same kernel: torch's own (cuBLAS) and the separate
operations, `kernels/product.py` with its cuts, and weights in 8 bits. Several sets of weights take turns, so that a GPU
cannot keep them in its cache. `--tune` keeps the fastest with weights in full in the user's table, from which models
take it. On a CPU there is no Triton: torch's own and the twins alone are timed, and the table says so.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.bench.product_ways import OWN, Line, cuts_for, measure
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from rich.table import Table

    from scope_play.kernels.product_table import ProductCut

LATENTS = (1, 2, 3, 4)


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument(
        "--model", choices=["scope", "nano"], help="linears of (default: scope on a GPU, nano on a CPU)"
    )
    parser.add_argument("--latents", default=",".join(map(str, LATENTS)), help="at once (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="(default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--tune", action="store_true", help="keep the fastest in your table, which models take from")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write products.json, to this folder")


def latents_of(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ScopeError(f"--latents {text!r} is not a list of numbers from 1 like 1,2,3,4")
    return [int(part) for part in parts]


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console

    from scope_play.bench.report import write_result
    from scope_play.bench.roofline import LATENTS as GRIDS
    from scope_play.bench.timing import pick_dtype
    from scope_play.kernels import describe, select
    from scope_play.kernels.dispatch import card_name
    from scope_play.kernels.product_table import TORCHS_OWN, Products, as_json, entry, save_table, table_path
    from scope_play.loading.device import pick_device
    from scope_play.model.dit.config import NANO, SCOPE_5B
    from scope_play.runtime.fused_linear import block_linears

    latents = latents_of(args.latents)
    if args.repeats < 1:
        raise ScopeError(f"--repeats is {args.repeats}, but must be at least 1")
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    model = args.model or ("scope" if device.type == "cuda" else "nano")
    config = {"scope": SCOPE_5B, "nano": NANO}[model]
    height, width = GRIDS[model]
    tokens = height // config.patch[1] * (width // config.patch[2])
    chosen = select(device, dtype, heads=config.heads, head_dim=config.head_dim)
    fused = chosen.backend == "triton"
    if args.tune and not fused:
        raise ScopeError(f"--tune needs the Triton kernels, but {chosen.reason}")
    if fused and device.type != "cuda":
        raise ScopeError("Triton's interpreter is not timed; unset TRITON_INTERPRET")
    kernels = replace(chosen, products=Products())
    console = Console()
    console.print(f"{model}: {tokens} tokens a latent, {dtype}, {device}; * is the fastest with weights in full")
    if not fused:
        console.print(f"Triton is not timed: {chosen.reason}. These are torch's own and the PyTorch twins.")
    results: list[Line] = []
    fastest: dict[str, ProductCut] = {}
    for count, shape in itertools.product(latents, block_linears(config)):
        rows = count * tokens
        cuts = {str(cut): cut for cut in cuts_for(shape, rows, device, dtype)} if fused else {}
        with torch.inference_mode():
            made, left_out = measure(shape, count, tokens, device, dtype, kernels, list(cuts.values()), args.repeats)
        results += made
        for way, why in left_out.items():
            console.print(f"left out, {shape.name}, chunk of {count}: {way}, {why}")
        best = next(line for line in made if line.fastest)
        if fused:
            word = str(dtype).removeprefix("torch.")
            key = entry(card_name(device), word, rows, shape.inner, shape.columns, shape.epilogue)
            fastest[key] = cuts.get(best.way, TORCHS_OWN)
        # After each, so that a run that is cut off leaves what it has.
        if args.tune:
            save_table(table_path(), fastest)
        if args.json is not None:
            numbers = {"model": model, "tokens": tokens, "dtype": str(dtype), "choice": describe()}
            lines = [asdict(line) for line in results]
            more = {"block_us": block_times(results), "lines": lines, "table": as_json(fastest)}
            written = write_result("products", {**numbers, **more}, args.json)
    console.print(table(results))
    for length, times in block_times(results).items():
        own, ours = times[OWN], times["fastest"]
        console.print(f"a block's linears, chunk of {length}: torch's own {own:.0f} us, the fastest {ours:.0f} us")
    if args.tune:
        console.print(f"{sum(cut != TORCHS_OWN for cut in fastest.values())} of {len(fastest)} are now a kernel's")
    if args.json is not None:
        console.print(f"written to {written}")
    return 0


def block_times(lines: list[Line]) -> dict[str, dict[str, float]]:
    """Microseconds of all linears of one block by number of latents: torch's own, and the fastest of each."""
    times: dict[str, dict[str, float]] = {}
    for line in lines:
        sums = times.setdefault(str(line.latents), {OWN: 0.0, "fastest": 0.0})
        sums[OWN] += line.count * line.microseconds if line.way == OWN else 0
        sums["fastest"] += line.count * line.microseconds if line.fastest else 0
    return times


def best_of_each_way(lines: list[Line]) -> Iterator[Line]:
    """The fastest cut of each way, for each linear and number of latents."""
    for _, group in itertools.groupby(lines, key=lambda line: (line.linear, line.latents)):
        ways: dict[str, Line] = {}
        for line in sorted(group, key=lambda line: line.microseconds):
            ways.setdefault(line.way.split(" ")[0], line)
        yield from ways.values()


def table(lines: list[Line]) -> Table:
    """A row for each way, the fastest first."""
    from rich.table import Column, Table

    right = [Column(name, justify="right") for name in ("us", "TFLOP/s", "floor")]
    made = Table(
        Column("linear", no_wrap=True), "latents", Column("way", no_wrap=True), *right, box=None, pad_edge=False
    )
    last = None
    for line in best_of_each_way(lines):
        named = (line.linear, line.latents)
        made.add_row(
            *(("", "") if named == last else (line.linear, str(line.latents))),
            f"{line.way} *" if line.fastest else line.way,
            f"{line.microseconds:.1f}",
            f"{line.teraflops:.4g}",
            "" if line.floor is None else f"{line.floor:.0%}",
        )
        last = named
    return made
