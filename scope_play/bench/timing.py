"""Times on whichever device the work runs: CUDA events around graph replays on a GPU, a wall clock on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def pick_device(name: str | None) -> torch.device:
    """The device asked for; by default the GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def time_calls(
    functions: Mapping[str, Callable[[], object]], device: torch.device, repeats: int, calls: int = 1
) -> dict[str, list[float]]:
    """Seconds of one call of each function, `repeats` times in turns.

    `calls` are made in a row and their time divided. On a GPU that row is one CUDA graph, so that launches by the host
    stay out of the figure, as they do in a captured streaming step; a function that cannot be captured raises.
    """
    if device.type == "cuda":
        rows = {name: _graphed(function, calls) for name, function in functions.items()}
    else:
        rows = {name: _repeated(function, calls) for name, function in functions.items()}
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


def _repeated(function: Callable[[], object], calls: int) -> Callable[[], float]:
    def row() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - began

    return row


def _graphed(function: Callable[[], object], calls: int) -> Callable[[], float]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles kernels and fills the allocator outside the capture
        for _ in range(calls):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            function()

    def row() -> float:
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1000

    return row
