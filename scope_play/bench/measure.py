"""Measuring one thing against another in the same process: interleaved, medians, peak memory."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def interleave(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns so that whatever else the machine does falls on all alike."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": 1000 * statistics.median(ordered), "p95": at(0.95), "p99": at(0.99)}


class _LiveBytes(TorchDispatchMode):
    """Tracks the storages alive that were made while it is on; those in `owned` do not count."""

    def __init__(self, owned: set[int]) -> None:
        super().__init__()
        self.owned = owned
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        self.peak = max(self.peak, sum(self.live.values()))
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.live and key not in self.owned:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key, None)


def peak_live_bytes(module: nn.Module, function: Callable[[], object]) -> int:
    """Largest sum of storages alive at once that `function` made; those of `module`'s parameters do not count."""
    tracker = _LiveBytes({parameter.untyped_storage()._cdata for parameter in module.parameters()})
    with tracker:
        function()
    return tracker.peak
