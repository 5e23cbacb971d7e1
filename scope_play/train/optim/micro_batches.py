"""Gradients of a batch cut into micro-batches.

On a GPU one after the other. On a CPU by a few threads that each compute on one core: small layers leave a second
core idle inside an operator, whole micro-batches do not. Gradients are summed in the order of the micro-batches, so
the result does not depend on which thread was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
Metrics = dict[str, Tensor]
Loss = Callable[[Batch], tuple[Tensor, Metrics]]


class Gradients:
    """Runs a loss over micro-batches and averages gradients and metrics. `threads=1` means no threads."""

    def __init__(self, parameters: dict[str, nn.Parameter], threads: int = 1) -> None:
        self._parameters = parameters
        self._threads = threads
        self._pool = (
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) if threads > 1 else None
        )

    def __call__(self, loss: Loss[Batch], batches: Sequence[Batch]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Mean over `batches` of the gradient by parameter name, and of the metrics."""

        def one(batch: Batch) -> tuple[tuple[Tensor | None, ...], Metrics]:
            value, metrics = loss(batch)
            gradients = torch.autograd.grad(value, list(self._parameters.values()), allow_unused=True)
            return gradients, {"loss": value.detach(), **metrics}

        results = list(self._pool.map(one, batches)) if self._pool else [one(batch) for batch in batches]
        share = 1 / len(results)
        summed: dict[str, Tensor] = {}
        for index, (name, parameter) in enumerate(self._parameters.items()):
            parts = [part for gradients, _ in results if (part := gradients[index]) is not None]
            if len(results) == len(parts) == 1:
                summed[name] = parts[0]
            else:
                summed[name] = torch.stack(parts).sum(0) * share if parts else torch.zeros_like(parameter)
        metrics = {key: sum(float(m[key]) for _, m in results) * share for key in results[0][1]}
        return summed, metrics

    def map(self, function: Callable[[Batch], Tensor], batches: Sequence[Batch]) -> list[Tensor]:
        """`function` of each micro-batch, in order, on the same threads; for work without gradients."""
        return list(self._pool.map(function, batches)) if self._pool else [function(batch) for batch in batches]

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()
