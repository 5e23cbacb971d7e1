"""What 8 bits change, block by block: traces of one pass against those of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockTrace:
    """What one block was given and what it answered."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


@dataclass(frozen=True)
class BlockError:
    """‖quantised - original‖ / ‖original‖ of a block's output: on its original input, and after all earlier blocks."""

    alone: float
    accumulated: float


def trace_blocks(network: nn.Module, run: Callable[[], object]) -> list[BlockTrace]:
    """Runs `run`, which calls `network` once, and keeps what went in and out of every block."""
    traces: list[BlockTrace] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        traces.append(BlockTrace(args, kwargs, output.clone()))

    hooks = [
        block.register_forward_hook(keep, with_kwargs=True) for block in network.get_submodule("blocks").children()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return traces


def block_errors(network: nn.Module, original: list[BlockTrace], run: Callable[[], object]) -> list[BlockError]:
    """Errors of a network after `quantise_blocks`, against the traces taken before it with the same `run`."""
    errors = []
    blocks = network.get_submodule("blocks").children()
    for block, before, after in zip(blocks, original, trace_blocks(network, run), strict=True):
        with torch.no_grad():
            alone = block(*before.args, **before.kwargs)
        errors.append(BlockError(_relative(alone, before.output), _relative(after.output, before.output)))
    return errors


def cache_errors(network: nn.Module, original: list[BlockTrace], run: Callable[[], object]) -> list[BlockError]:
    """As `block_errors` for a `run` whose caches differ: a block's memory is the last of its arguments."""
    errors = []
    blocks = network.get_submodule("blocks").children()
    for block, before, after in zip(blocks, original, trace_blocks(network, run), strict=True):
        with torch.no_grad():
            alone = block(*before.args[:-1], after.args[-1], **before.kwargs)
        errors.append(BlockError(_relative(alone, before.output), _relative(after.output, before.output)))
    return errors


def _relative(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())
