"""Running a network whose blocks do not all fit on the device: they stay in host memory or in their files, and pass
through two slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError

SLOTS = 2
"""One block computes while the next one arrives."""


class BlockStore(Protocol):
    """Where blocks lie that are not on the device."""

    @property
    def layers(self) -> int: ...

    @property
    def waits(self) -> bool:
        """Whether copying makes the caller wait, so that it is better done in a thread of its own."""

    def read(self, index: int) -> Iterator[tuple[str, Tensor]]:
        """The tensors of block `index` by their names in it; each is valid until the next one is asked for."""


class HostBlocks:
    """Blocks in host memory, pinned for a GPU, so that copies run beside the computation."""

    def __init__(self, blocks: nn.ModuleList, device: torch.device) -> None:
        self.blocks = blocks
        self.waits = False
        if device.type == "cuda":
            for parameter in blocks.parameters():
                parameter.data = parameter.data.cpu().pin_memory()

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def read(self, index: int) -> Iterator[tuple[str, Tensor]]:
        yield from self.blocks[index].named_parameters()


class FileBlocks:
    """Blocks in weight files: `read` gives those of some names, which `names` lists block by block (here -> there)."""

    waits = True

    def __init__(
        self, read: Callable[[Sequence[str]], Iterator[tuple[str, Tensor]]], names: Sequence[dict[str, str]]
    ) -> None:
        self._read = read
        self._names = names

    @property
    def layers(self) -> int:
        return len(self._names)

    def read(self, index: int) -> Iterator[tuple[str, Tensor]]:
        here = {there: name for name, there in self._names[index].items()}
        for there, tensor in self._read(list(here)):
            yield here[there], tensor


class _Slot:
    """Room for one block on the device, and the events that order its copies after its uses."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self._parameters = dict(module.named_parameters())
        self._device = device
        on_gpu = device.type == "cuda"
        self._filled = torch.cuda.Event() if on_gpu else None
        self._released = torch.cuda.Event() if on_gpu else None

    @torch.no_grad()
    def fill(self, store: BlockStore, index: int, copies: torch.cuda.Stream | None) -> None:
        """Begin to copy block `index` in, once earlier work on the slot is done."""
        if copies is not None and self._released is not None:
            copies.wait_event(self._released)
        with torch.cuda.stream(copies) if copies is not None else nullcontext():
            for name, tensor in store.read(index):
                self._parameters[name].copy_(tensor, non_blocking=True)
            if self._filled is not None:
                self._filled.record(copies)

    def wait(self) -> None:
        if self._filled is not None:
            torch.cuda.current_stream(self._device).wait_event(self._filled)

    def release(self) -> None:
        if self._released is not None:
            self._released.record(torch.cuda.current_stream(self._device))


class StreamedBlocks(nn.Module):
    """In the place of a list of equal blocks: iterated over, it gives each on the device while the next one is copied.

    A block is valid only until the next one is asked for. One iteration at a time. It has no parameters of its own.
    """

    def __init__(self, store: BlockStore, make_slot: Callable[[], nn.Module], device: torch.device) -> None:
        """`make_slot` builds a block on `device`, whatever its numbers."""
        super().__init__()
        self.store = store
        # In a tuple, so that the slots' parameters are not this module's. Tensors of inference mode could not be
        # written from the thread that copies.
        with torch.inference_mode(False):
            self._slots = tuple(_Slot(make_slot(), device) for _ in range(min(SLOTS, store.layers)))
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, "blocks") if store.waits else None
        self._arriving: dict[int, Future[None]] = {}

    def __len__(self) -> int:
        return self.store.layers

    def __iter__(self) -> Iterator[nn.Module]:
        try:
            self._fetch(0)
            for index in range(len(self)):
                if index + 1 < len(self):
                    self._fetch(index + 1)
                arriving = self._arriving.pop(index, None)
                if arriving is not None:
                    arriving.result()
                slot = self._slots[index % len(self._slots)]
                slot.wait()
                try:
                    yield slot.module
                finally:  # also when whoever uses the block raises: the next round's copies come after its work
                    slot.release()
        finally:
            for late in self._arriving.values():
                late.exception()
            self._arriving.clear()

    def _fetch(self, index: int) -> None:
        slot = self._slots[index % len(self._slots)]
        if self._thread is None:
            slot.fill(self.store, index, self._copies)
        else:
            self._arriving[index] = self._thread.submit(slot.fill, self.store, index, self._copies)

    def _apply(self, fn: object, recurse: bool = True) -> StreamedBlocks:
        raise ScopeError("Streamed blocks stay where they are; move or cast the transformer before offloading it.")


def is_streamed(network: nn.Module) -> bool:
    """Whether the blocks of a network pass through slots."""
    return isinstance(network.blocks, StreamedBlocks)


def stream_blocks(network: nn.Module, device: torch.device | str) -> None:
    """Keeps `network.blocks` on the host, streams them through `device` from now on, and moves the rest there.

    `network` is a DiT on the host.

    Raises:
        ScopeError: the pinned host memory could not be had.
    """
    import copy

    device = torch.device(device)
    blocks = network.blocks
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(f"{type(network).__name__}.blocks is a {type(blocks).__name__}, not a ModuleList")
    network.blocks = nn.ModuleList()
    network.to(device)
    try:
        store = HostBlocks(blocks, device)
    except RuntimeError as error:
        network.blocks = blocks
        raise ScopeError(
            f"The transformer's blocks could not be pinned in host memory ({str(error).splitlines()[0]}); "
            f"close other programs, or use --offload disk, or a GPU on which --offload none fits."
        ) from error
    network.blocks = StreamedBlocks(store, lambda: copy.deepcopy(blocks[0]).to(device), device)
