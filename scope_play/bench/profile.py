"""`scope-play bench profile`: where the time of streaming goes, operation by operation, in a few chunks.

Uses torch's own profiler. On a GPU the passes are replayed as CUDA graphs, whose kernels it names one by one; a trace
for chrome://tracing lies beside the figures.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from torch.profiler import profile

    from scope_play.world import World

WARM_UP = 3
"""Chunks beyond the window that are played before: the last graphs are recorded in them."""


@dataclass(frozen=True)
class Operation:
    """Its own time in all profiled chunks, in milliseconds, on the device that is profiled."""

    name: str
    calls: int
    milliseconds: float
    share: float


def profile_chunks(world: World, chunks: int) -> profile:
    """The profile of `chunks` chunks behind a full window."""
    import numpy as np
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if world.model.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    rows = np.zeros((world.spec.frames_per_chunk, 10), np.float32)
    with world.start(prompt="a corridor" if world.spec.has_text else None) as session:
        for _ in range(world.spec.stream.window // world.spec.stream.chunk + WARM_UP):
            session.step(rows)
        with profile(activities=activities) as profiler:
            for _ in range(chunks):
                session.step(rows)
            if world.model.device.type == "cuda":
                torch.cuda.synchronize(world.model.device)
    return profiler


def operations(profiler: profile, on_gpu: bool) -> list[Operation]:
    """By the time they take themselves, the longest first."""
    averages = profiler.key_averages()
    times = [(event, event.self_device_time_total if on_gpu else event.self_cpu_time_total) for event in averages]
    total = sum(time for _, time in times) or 1
    ordered = sorted(times, key=lambda pair: -pair[1])
    return [Operation(event.key, event.count, time / 1000, time / total) for event, time in ordered if time > 0]


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.random_world import SHAPES
    from scope_play.bench.report import RESULTS

    parser.add_argument("--model", choices=SHAPES, help="(default: scope-random on a GPU, small-random on a CPU)")
    parser.add_argument("--chunks", type=int, default=3, help="profiled (default %(default)s)")
    parser.add_argument("--rows", type=int, default=25, help="operations to print (default %(default)s)")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--precision", help="as in play (default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write profile.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Column, Table

    from scope_play.bench.random_world import random_world
    from scope_play.bench.report import write_result
    from scope_play.loading.device import pick_device

    for name in ("chunks", "rows"):
        if getattr(args, name) < 1:
            raise ScopeError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    on_gpu = pick_device(args.device).type == "cuda"
    model = args.model or ("scope-random" if on_gpu else "small-random")
    world = random_world(model, device=args.device, precision=args.precision)
    profiler = profile_chunks(world, args.chunks)
    found = operations(profiler, on_gpu)
    table = Table(Column("operation", overflow="ellipsis", max_width=70), "calls a chunk", "ms a chunk", "share")
    for operation in found[: args.rows]:
        figures = f"{operation.calls / args.chunks:.1f}", f"{operation.milliseconds / args.chunks:.3f}"
        table.add_row(operation.name, *figures, f"{operation.share:.1%}")
    console = Console()
    console.print(f"{model}, {world.spec.precision} on {world.spec.device}, kernels {world.kernels}")
    console.print(table)
    if args.json is not None:
        numbers = {"model": model, "chunks": args.chunks, "operations": [asdict(operation) for operation in found]}
        console.print(f"written to {write_result('profile', numbers, args.json)}")
        if on_gpu:
            profiler.export_chrome_trace(str(args.json / "trace.json.gz"))
    return 0
