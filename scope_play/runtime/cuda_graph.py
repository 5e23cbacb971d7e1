"""The streaming pass as CUDA graphs: recorded once for each fill of the cache, then replayed without the host's help.

A pass is hundreds of small launches, and a graph starts them all at once. It reads and writes fixed addresses, so what
a pass is given is copied into buffers first; the cache is at fixed addresses already. How many slots are in use is part
of a recording: while the window fills each chunk has its own, and from then on there is one. All are made before a game
begins (`scope_play.sampling.rehearsal`).

Tests without a GPU give it a recorder that only calls the function (`run_again`): the buffers are then the same and the
capture itself is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from scope_play.model.dit.block import TextKV
from scope_play.runtime.fused_block import StepPlan
from scope_play.runtime.fused_dit import FusedDiT, StepTime
from scope_play.runtime.kv_cache import StreamCache

Replay: TypeAlias = Callable[[], Tensor]
Recorder: TypeAlias = Callable[[Replay], Replay]


class PassInputs(NamedTuple):
    """All that a pass reads besides weights and cache."""

    latents: Tensor
    previous: Tensor | None
    time: StepTime
    plan: StepPlan
    text: list[TextKV] | None

    def shapes(self) -> tuple[Any, ...]:
        return shapes(tuple(self))


def shapes(tree: Any) -> tuple[Any, ...]:
    """What a recording depends on: sizes and types of the tensors, values of all else."""
    leaves = tree_leaves(tree)
    return tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves)


class Buffers:
    """Copies of a pass's inputs that keep their addresses."""

    def __init__(self, inputs: PassInputs) -> None:
        self.inputs: PassInputs = tree_map_only(Tensor, torch.clone, inputs)
        self.source = inputs

    def load(self, inputs: PassInputs) -> None:
        """Bring the copies up to date. The very object loaded last, such as a chunk's plan, is there already."""
        for mine, theirs, last in zip(self.inputs, inputs, self.source, strict=True):
            if theirs is not last:
                for target, source in zip(tree_leaves(mine), tree_leaves(theirs), strict=True):
                    if isinstance(target, Tensor):
                        target.copy_(source)
        self.source = inputs


def run_again(function: Replay) -> Replay:
    """The recorder that records nothing."""
    return function


class CudaRecorder:
    """Captures functions as CUDA graphs that share one pool of memory; their results hold until the next replay."""

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        """`priority` as of a CUDA stream: a graph's kernels have that of the stream they were captured on, whichever
        they are replayed on."""
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device, priority=priority)

    def __call__(self, function: Replay) -> Replay:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):  # kernels are compiled and libraries set up outside the capture
            function()
        torch.cuda.current_stream().wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using CUDA, to show frames for one.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            output = function()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


class GraphedDiT(FusedDiT):
    """A FusedDiT for one stream, whose passes are replays. The first cache it is given is the one it serves."""

    def __init__(self, network: FusedDiT, record: Recorder) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(network))  # the same weights and buffers, without a copy; only the pass is its own
        self._fused = (network,)  # in a tuple, so that it is no submodule
        self._record = record
        self._inputs: dict[tuple[Any, ...], Buffers] = {}
        self._recordings: dict[tuple[Any, ...], Replay] = {}

    def run(
        self,
        latents: Tensor,
        previous: Tensor | None,
        time: StepTime,
        cache: StreamCache,
        plan: StepPlan,
        text: list[TextKV] | None,
    ) -> Tensor:
        """As `FusedDiT.run`."""
        inputs = PassInputs(latents, previous, time, plan, text)
        shapes = inputs.shapes()
        if shapes not in self._inputs:
            self._inputs[shapes] = Buffers(inputs)
        buffers = self._inputs[shapes]
        buffers.load(inputs)
        key = (cache.filled, shapes)
        if key not in self._recordings:
            (fused,), kept = self._fused, buffers.inputs
            self._recordings[key] = self._record(
                lambda: fused.run(kept.latents, kept.previous, kept.time, cache, kept.plan, kept.text)
            )
        return self._recordings[key]().clone()
