"""Times on whichever device the work runs: CUDA events around graph replays on a GPU, a wall clock on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def pick_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The type asked for (bf16, fp16, fp32); by default what one would play in on `device`."""
    name = name or ("bf16" if device.type == "cuda" else "fp32")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def time_calls(
    functions: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    calls: int = 1,
    graphed: bool = True,
) -> dict[str, list[float]]:
    """Seconds of one call of each function, `repeats` times in turns.

    `calls` are made in a row and their time divided. On a GPU the row is one CUDA graph if `graphed`, so that launches
    by the host stay out of the figure, as they do in a captured streaming step; what cannot be captured raises.
    """
    on_gpu = device.type == "cuda"
    prepare, clock = (_graphed if on_gpu and graphed else _repeated), (_by_events if on_gpu else _by_clock)
    rows = {name: clock(prepare(function, calls)) for name, function in functions.items()}
    for row in rows.values():
        row()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, row in rows.items():
            seconds[name].append(row() / calls)
    return seconds


def median_and_p95(seconds: list[float]) -> tuple[float, float]:
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _repeated(function: Callable[[], object], calls: int) -> Callable[[], None]:
    def row() -> None:
        for _ in range(calls):
            function()

    return row


def _graphed(function: Callable[[], object], calls: int) -> Callable[[], None]:
    row = _repeated(function, calls)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles kernels and fills the allocator outside the capture
        row()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row()
    return graph.replay


def _by_clock(row: Callable[[], None]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        row()
        return time.perf_counter() - began

    return timed


def _by_events(row: Callable[[], None]) -> Callable[[], float]:
    def timed() -> float:
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        row()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1000

    return timed
