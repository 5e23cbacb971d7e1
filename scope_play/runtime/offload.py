"""Running a transformer whose blocks do not all fit on the device: they stay on the host and pass through two slots."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn

from scope_play.errors import ScopeError

SLOTS = 2
"""One block computes while the next one arrives."""


class _Slot:
    """Room for one block on the device, and the events that order its copies after its uses."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.module = copy.deepcopy(block).to(device)
        self._device = device
        on_gpu = device.type == "cuda"
        self._filled = torch.cuda.Event() if on_gpu else None
        self._released = torch.cuda.Event() if on_gpu else None

    def fill(self, block: nn.Module, copies: torch.cuda.Stream | None) -> None:
        """Begin to copy `block` in, once earlier work on the slot is done."""
        if copies is not None and self._released is not None:
            copies.wait_event(self._released)
        with torch.no_grad(), torch.cuda.stream(copies) if copies is not None else nullcontext():
            for target, source in zip(self.module.parameters(), block.parameters(), strict=True):
                target.copy_(source, non_blocking=True)
            if self._filled is not None:
                self._filled.record(copies)

    def wait(self) -> None:
        if self._filled is not None:
            torch.cuda.current_stream(self._device).wait_event(self._filled)

    def release(self) -> None:
        if self._released is not None:
            self._released.record(torch.cuda.current_stream(self._device))


class StreamedBlocks(nn.ModuleList):
    """A list of equal blocks on the host that, iterated over, gives each on the device while the next one is copied.

    A block is valid only until the next one is asked for. On CUDA the host copy is pinned, so that copies run beside
    the computation; on the CPU they are plain moves. Parameters and the state dict are those of the host copy.
    """

    def __init__(self, blocks: nn.ModuleList, device: torch.device) -> None:
        super().__init__(blocks)
        if device.type == "cuda":
            for parameter in self.parameters():
                parameter.data = parameter.data.cpu().pin_memory()
        # In a tuple, so that the slots' parameters are not this module's.
        self._slots = tuple(_Slot(blocks[0], device) for _ in range(min(SLOTS, len(blocks))))
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __iter__(self) -> Iterator[nn.Module]:
        blocks = list(self.children())
        self._slot(0).fill(blocks[0], self._copies)
        for index in range(len(blocks)):
            slot = self._slot(index)
            if index + 1 < len(blocks):
                self._slot(index + 1).fill(blocks[index + 1], self._copies)
            slot.wait()
            yield slot.module
            slot.release()

    def _slot(self, index: int) -> _Slot:
        return self._slots[index % len(self._slots)]

    def _apply(self, fn: object, recurse: bool = True) -> StreamedBlocks:
        raise ScopeError("Streamed blocks stay on the host; move or cast the transformer before offloading it.")


def stream_blocks(network: nn.Module, device: torch.device | str) -> None:
    """Keeps `network.blocks` on the host, streams them through `device` from now on, and moves the rest there.

    `network` is a DiT on the host.

    Raises:
        ScopeError: the pinned host memory could not be had.
    """
    device = torch.device(device)
    blocks = network.blocks
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(f"{type(network).__name__}.blocks is a {type(blocks).__name__}, not a ModuleList")
    network.blocks = nn.ModuleList()
    network.to(device)
    try:
        network.blocks = StreamedBlocks(blocks, device)
    except RuntimeError as error:
        network.blocks = blocks
        raise ScopeError(
            f"The transformer's blocks could not be pinned in host memory ({str(error).splitlines()[0]}); "
            f"close other programs, or use a GPU on which --offload none fits."
        ) from error
