"""`scope-play bench kernels`: each fused kernel against its PyTorch twin and a literal transcription, in one run.

The literal ones do what the reference does (SPEC.md sections 2 and 3): tokens regrouped by pixel, button keys repeated
for every pixel, rotation in complex128, per-frame vectors repeated for every token. Several sets of inputs take
turns, so that a GPU cannot keep them in its cache. On a CPU there is no Triton: twins and transcriptions alone are
timed, and the table says so.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table
    from torch import Tensor

    from scope_play.bench.costs import Gpu
    from scope_play.kernels import Kernels

SHAPES = {"scope": (390, 24, 128), "nano": (60, 8, 32)}
"""Tokens of a latent frame, heads, head size."""
FP8_CASE = "pixel_attention, fp8 cache"
CACHE_ESCAPE = 256e6
"""Bytes of inputs that no GPU's L2 holds."""


@dataclass(frozen=True)
class Shape:
    tokens: int
    heads: int
    head_dim: int
    latents: int
    context: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def row(self) -> int:
        """Elements of one activation of the chunk."""
        return self.latents * self.tokens * self.width


@dataclass(frozen=True)
class Case:
    """One kernel: its implementations by name, the bytes it must move and the operations it must do."""

    name: str
    run: dict[str, Callable[[], object]]
    bytes: float
    flops: float


@dataclass(frozen=True)
class Line:
    """One implementation's figures. `floor` is its share of what the GPU could do at best; None for unknown GPUs."""

    kernel: str
    implementation: str
    median_us: float
    p95_us: float
    gigabytes_per_second: float
    teraflops: float
    floor: float | None


class Inputs:
    """Random inputs of one shape, with caches `context` full."""

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        from scope_play.kernels.fp8 import Remembered, round_rows

        def normal(*size: int) -> Tensor:
            return torch.randn(size, device=device, dtype=dtype)

        n, tokens, width = shape.latents, shape.tokens, shape.width
        slots = (1, n + shape.context)
        self.valid = n + shape.context
        self.q, self.k, self.v = (normal(1, n, tokens, width) for _ in "qkv")
        self.q_weight, self.k_weight = normal(width), normal(width)
        self.keys, self.values = (normal(*slots, tokens, shape.heads, shape.head_dim) for _ in "kv")
        self.button_keys, self.button_values = (normal(*slots, 1, shape.heads, shape.head_dim) for _ in "kv")
        past = (keys[:, n:] for keys in (self.keys, self.values))
        self.remembered = Remembered(*(round_rows(x) for x in past))
        self.shift, self.scale, self.gate = (normal(1, n, 1, width) for _ in "abc")
        angles = torch.randn(1, n, tokens, 1, shape.head_dim // 2, device=device)
        self.video_rotation = angles.cos(), angles.sin()
        self.pixel_rotation = tuple(table[:, :, :1] for table in self.video_rotation)


def cases(shape: Shape, inputs: list[Inputs], fused: Kernels | None, twins: Kernels, element: int) -> list[Case]:
    from scope_play.bench import literal_kernels as literal

    sources: dict[str, Any] = {"torch": twins, "literal": literal}
    if fused is not None:
        sources = {"triton": fused, **sources}
    visible = shape.latents + shape.context
    history = 2 * shape.context * shape.tokens * shape.width
    half = shape.latents * shape.tokens * shape.head_dim * 4  # float32 cos and sin, in bytes

    def case(
        name: str,
        call: Callable[[Any, Inputs], object],
        elements: float,
        flops: float,
        more: float = 0,
        kernel: str | None = None,
    ) -> Case:
        def take_turns(operation: Any) -> Callable[[], object]:
            turn = itertools.cycle(inputs)
            return lambda: call(operation, next(turn))

        run = {source: take_turns(getattr(kernels, kernel or name)) for source, kernels in sources.items()}
        return Case(name, run, elements * element + more, flops)

    return [
        case(
            "pixel_attention",
            lambda f, i: f(i.q, i.k, i.v, i.q_weight, i.k_weight, i.pixel_rotation, i.keys, i.values, i.valid),
            history + 6 * shape.row,
            4 * shape.row * visible,
        ),
        case(
            FP8_CASE,
            lambda f, i: f(
                *(i.q, i.k, i.v, i.q_weight, i.k_weight, i.pixel_rotation, i.keys, i.values, i.valid),
                remembered=i.remembered,
            ),
            6 * shape.row,
            4 * shape.row * visible,
            history * (1 + 4 / shape.head_dim),
            "pixel_attention",
        ),
        case(
            "button_attention",
            lambda f, i: f(i.q, i.q_weight, i.pixel_rotation, i.button_keys, i.button_values, i.valid),
            2 * visible * shape.width + 2 * shape.row,
            4 * shape.row * visible,
        ),
        case(
            "norm_rope",
            lambda f, i: f(i.q, i.k, i.v, i.q_weight, i.k_weight, i.video_rotation, i.keys, i.values),
            6 * shape.row,
            20 * shape.row,
            half,
        ),
        case("modulate", lambda f, i: f(i.q, i.shift, i.scale), 2 * shape.row, 8 * shape.row),
        case("gate_add", lambda f, i: f(i.q, i.k, i.gate), 3 * shape.row, 2 * shape.row),
        case("action_fuse", lambda f, i: f(i.q, i.shift), 2 * shape.row, 10 * shape.row),
    ]


def lines(case: Case, seconds: dict[str, list[float]], gpu: Gpu | None) -> list[Line]:
    from scope_play.bench.timing import median_and_p95

    found = []
    for name, times in seconds.items():
        median, p95 = median_and_p95(times)
        best = None if gpu is None else case.bytes / (gpu.terabytes * 1e12)
        floor = None if best is None else best / median
        rates = case.bytes / median / 1e9, case.flops / median / 1e12
        found.append(Line(case.name, name, median * 1e6, p95 * 1e6, *rates, floor))
    return found


def known_gpu(device: torch.device) -> Gpu | None:
    """The roofline entry of this GPU, by its name; None on a CPU or for a GPU not listed."""
    import torch

    from scope_play.bench.costs import GPUS

    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device).lower().replace(" ", "")
    return next((gpu for key, gpu in GPUS.items() if key in name), None)


def matrix_share(teraflops: float, device: torch.device) -> float | None:
    """The share of the dense bf16 matrix rate that `teraflops` are; None where that rate is not known."""
    gpu = known_gpu(device)
    return None if gpu is None else teraflops / gpu.tflops


def tune(
    shape: Shape, inputs: list[Inputs], device: torch.device, dtype: torch.dtype, repeats: int, console: Console
) -> None:
    """Times every candidate cut of the attentions and adds the best to the user's table."""
    from scope_play.bench.timing import median_and_p95, time_calls
    from scope_play.kernels.dispatch import torch_kernels, triton_kernels, tuning_entry
    from scope_play.kernels.tuning import TUNED, Cut, fastest, save_table, table_path

    found = {}
    for name in TUNED:

        def seconds(cut: Cut, name: str = name) -> float:
            fused = triton_kernels("tuning", cut, cut)
            made = cases(shape, inputs, fused, torch_kernels("tuning"), dtype.itemsize)
            case = next(case for case in made if case.name == name)
            times = time_calls({"triton": case.run["triton"]}, device, repeats, calls=len(inputs))
            return median_and_p95(times["triton"])[0]

        best, times = fastest(name, seconds)
        console.print(f"{name}: {best}, {times[Cut()] / times[best]:.2f} times the default's speed")
        found[tuning_entry(name, device, dtype, shape.heads, shape.head_dim, shape.latents)] = best
    save_table(table_path(), found)


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument("--model", choices=SHAPES, help="shapes of (default: scope on a GPU, nano on a CPU)")
    parser.add_argument("--chunk", type=int, default=1, choices=range(1, 5), help="latents denoised at once")
    parser.add_argument("--window", type=int, default=12, help="latents remembered (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="(default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--tune", action="store_true", help="first find the best cut of the attentions and keep it")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write kernels.json, to this folder")


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console

    from scope_play.bench.report import write_result
    from scope_play.bench.timing import pick_dtype, time_calls
    from scope_play.kernels import describe, select
    from scope_play.kernels.dispatch import torch_kernels
    from scope_play.loading.device import pick_device

    if args.window < 1 or args.repeats < 1:
        raise ScopeError(f"--window {args.window} and --repeats {args.repeats} must be at least 1")
    device = pick_device(args.device)
    on_gpu = device.type == "cuda"
    dtype = pick_dtype(args.dtype, device)
    tokens, heads, head_dim = SHAPES[args.model or ("scope" if on_gpu else "nano")]
    shape = Shape(tokens, heads, head_dim, args.chunk, args.window)
    chosen = select(device, dtype, heads=heads, head_dim=head_dim, latents=args.chunk)
    if args.tune and chosen.backend != "triton":
        raise ScopeError(f"--tune needs the Triton kernels, but {chosen.reason}")
    size = 2 * (args.chunk + args.window) * tokens * shape.width * dtype.itemsize
    sets = math.ceil(CACHE_ESCAPE / size) if on_gpu else 2
    inputs = [Inputs(shape, device, dtype) for _ in range(sets)]
    gpu = known_gpu(device)
    console = Console()
    if args.tune:
        with torch.inference_mode():
            tune(shape, inputs, device, dtype, args.repeats, console)
        chosen = select(device, dtype, heads=heads, head_dim=head_dim, latents=args.chunk)
    fused = chosen if chosen.backend == "triton" else None
    results: list[Line] = []
    with torch.inference_mode():
        for case in cases(shape, inputs, fused, torch_kernels("the twin"), dtype.itemsize):
            results += lines(case, time_calls(case.run, device, args.repeats, calls=sets), gpu)

    console.print(f"{tokens} tokens, {heads} x {head_dim}, chunk {args.chunk}, window {args.window}, {dtype}, {device}")
    if fused is None:
        console.print(f"Triton is not timed: {chosen.reason}. These are the PyTorch twins.")
    console.print(_table(results))
    if args.json is not None:
        numbers = {"shape": asdict(shape), "choice": describe(), "lines": [asdict(line) for line in results]}
        console.print(f"written to {write_result('kernels', numbers, args.json)}")
    return 0


def _table(results: list[Line]) -> Table:
    """One row a kernel: times of all implementations, rates of the first, which is the fused one where there is one."""
    from rich.table import Column, Table

    by_kernel: dict[str, dict[str, Line]] = {}
    for line in results:
        by_kernel.setdefault(line.kernel, {})[line.implementation] = line
    names = list(next(iter(by_kernel.values())))
    times = [f"{name} us (p95)" for name in names]
    kernel_column = Column("kernel", no_wrap=True)
    table = Table(kernel_column, *times, "twin is", "literal is", "GB/s", "TFLOP/s", "floor")
    for kernel, row in by_kernel.items():
        first = row[names[0]]
        table.add_row(
            kernel,
            *(f"{line.median_us:.1f} ({line.p95_us:.0f})" for line in row.values()),
            f"{row['torch'].median_us / first.median_us:.1f}x",
            f"{row['literal'].median_us / first.median_us:.1f}x",
            f"{first.gigabytes_per_second:.1f}",
            f"{first.teraflops:.3f}",
            "" if first.floor is None else f"{first.floor:.0%}",
        )
    return table
