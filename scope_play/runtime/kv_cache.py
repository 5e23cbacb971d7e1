"""Keys and values of earlier latents: a sliding window and the chunk in flight, in one preallocated buffer.

Slots lie `[tail | ring]` along the frame axis. The tail holds the chunk being denoised, rewritten in every pass and
pushed against its end, so that what may be seen is always one contiguous run of slots: no mask, no copy, and a slot
outside the run can hold anything. Keys are stored rotated to their own position; since rotary scores depend on
differences alone, the ring never needs touching however long a session lasts.

A joint pass commits the chunk before while it denoises the next: its tail is `[noisy | clean]`, and a mask says who
sees what; see `joint_commit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels.fp8 import FP8, Remembered, Rounded, round_rows, widen
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.layout import FrameLayout
from scope_play.runtime.joint_commit import joint_layout

KV_DTYPES = ("full", "fp8")


@dataclass(frozen=True)
class CacheConfig:
    """Sizes in latent frames: `chunk` denoised at once, `window` remembered.

    `kv_dtype`: "full", the type the network computes in, or "fp8" for what is remembered; see `Fp8Memory`.
    `joint`: with room for passes that commit one chunk while they denoise the next.
    """

    window: int = 12
    chunk: int = 1
    kv_dtype: str = "full"
    joint: bool = False

    def __post_init__(self) -> None:
        if self.kv_dtype not in KV_DTYPES:
            raise ScopeError(f"cache {self.kv_dtype!r} is not known; use one of {', '.join(KV_DTYPES)}")
        if self.joint and self.kv_dtype != "full":
            raise ScopeError(f"a cache in {self.kv_dtype} has no room for joint passes; commit chunks on their own")
        for name in ("window", "chunk"):
            if getattr(self, name) < 1:
                raise ScopeError(f"cache {name} is {getattr(self, name)}, but must be at least 1")

    @property
    def tail(self) -> int:
        return 2 * self.chunk if self.joint else self.chunk

    @property
    def slots(self) -> int:
        return self.tail + self.window


class KVMemory:
    """Keys and values of one attention in one layer: two tensors (B, slots, tokens, heads, head_dim)."""

    remembered: Remembered | None = None
    """The ring where it is in 8 bits, and not part of `keys` and `values`."""

    def __init__(
        self, config: CacheConfig, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        batch, tokens, heads, head_dim = shape
        self.config = config
        self.keys = torch.zeros(batch, config.slots, tokens, heads, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the latents in flight (B, n, tokens, heads, head_dim); return all that may be seen, theirs first."""
        start = self.config.tail - keys.shape[1]
        self.keys[:, start : self.config.tail] = keys
        self.values[:, start : self.config.tail] = values
        return self.visible(keys.shape[1])

    def visible(self, latents: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the `latents` in flight and of what is remembered."""
        start, stop = self.config.tail - latents, self.config.tail + self.filled
        return self.keys[:, start:stop], self.values[:, start:stop]

    def commit(self, source: list[int], target: list[int], filled: int) -> None:
        """Keep latents of the tail: tail offset source[j] goes to slot target[j]."""
        # Slot by slot: an index made of a list would be copied to the device, and the host would wait for it.
        for tail, slot in zip(source, target, strict=True):
            self.keys[:, slot] = self.keys[:, tail]
            self.values[:, slot] = self.values[:, tail]
        self.filled = filled

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.keys, self.values)


class Fp8Memory(KVMemory):
    """A KVMemory of half the size: `keys` and `values` are the tail alone, and the ring is `remembered` in 8 bits.

    Numbers are rounded once, when a chunk is committed, and never when they are read.
    """

    def __init__(
        self, config: CacheConfig, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        batch, tokens, heads, head_dim = shape
        self.config = config
        self.keys = torch.zeros(batch, config.tail, tokens, heads, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.filled = 0

        def empty() -> Rounded:
            slots = (batch, config.window, tokens, heads)
            return Rounded(torch.zeros(*slots, head_dim, device=device).to(FP8), torch.zeros(*slots, 1, device=device))

        self.past = Remembered(empty(), empty())
        self.remembered = self.past

    def visible(self, latents: int) -> tuple[Tensor, Tensor]:
        start = self.config.tail - latents

        def join(own: Tensor, past: Rounded) -> Tensor:
            seen = Rounded(past.data[:, : self.filled], past.scale[:, : self.filled])
            return torch.cat([own[:, start:], widen(seen, own.dtype)], 1)

        return join(self.keys, self.past.keys), join(self.values, self.past.values)

    def commit(self, source: list[int], target: list[int], filled: int) -> None:
        for own, past in zip((self.keys, self.values), self.past, strict=True):
            for tail, slot in zip(source, target, strict=True):
                rounded, ring = round_rows(own[:, tail]), slot - self.config.tail
                past.data[:, ring], past.scale[:, ring] = rounded.data, rounded.scale
        self.filled = filled

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.keys, self.values, *self.past.keys, *self.past.values)


@dataclass
class LayerMemory:
    """The memories of one block; None where the block has no such attention."""

    frames: KVMemory
    pixels: KVMemory | None
    buttons: KVMemory | None

    def all(self) -> Iterator[KVMemory]:
        yield from (memory for memory in (self.frames, self.pixels, self.buttons) if memory is not None)


@dataclass(frozen=True)
class CacheSnapshot:
    """A copy of everything a StreamCache holds; `nbytes` on its device."""

    tensors: tuple[Tensor, ...]
    last: Tensor | None
    position: int
    start: int

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors) + (0 if self.last is None else self.last.nbytes)


class StreamCache:
    """All memories of one running world (or of B worlds in step with each other)."""

    def __init__(
        self,
        network: DiTConfig,
        config: CacheConfig,
        *,
        batch: int,
        tokens: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`tokens` is the number of tokens in a latent frame, after patchify."""
        self.config = config
        self.position = 0
        """The position of the next latent."""
        self.start = 0
        """The position of the first latent committed since there was nothing."""
        self.in_flight: Tensor | None = None
        """The latents (B, C, n, h, w) that a commit keeps; theirs are the last slots of the tail."""
        self.last: Tensor | None = None
        """The latent committed last, (B, C, 1, h, w)."""
        self.device = torch.device(device)

        def memory(kind: type[KVMemory], width: int) -> KVMemory:
            return kind(config, (batch, width, network.heads, network.head_dim), self.device, dtype)

        rows = Fp8Memory if config.kv_dtype == "fp8" else KVMemory
        acts = network.action is not None
        self.layers = [
            LayerMemory(
                memory(rows, tokens),
                memory(rows, tokens) if acts else None,
                memory(KVMemory, 1) if acts else None,  # so few that they stay in full
            )
            for _ in range(network.layers)
        ]

    def memories(self) -> Iterator[KVMemory]:
        for layer in self.layers:
            yield from layer.all()

    @property
    def filled(self) -> int:
        """Slots of the window in use."""
        return next(self.memories()).filled

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for memory in self.memories() for tensor in memory.tensors())

    def layout(self, latents: int, clean: int = 0) -> FrameLayout:
        """Where the `latents` of the next pass stand; with `clean`, the last so many are the chunk it commits."""
        if clean:
            window, start = self.config.window, self.start
            return joint_layout(self.position, latents - clean, clean, window=window, start=start, device=self.device)
        positions = torch.arange(self.position, self.position + latents, device=self.device)
        return FrameLayout(positions, positions)

    def previous(self, latents: Tensor, clean: int = 0) -> Tensor:
        """The clean latent before its chunk, for each of a pass's latents (B, C, n, h, w), the last `clean` of which
        the pass commits; the very first latent stands before itself."""
        noisy = latents.shape[2] - clean
        before = latents[:, :, noisy * bool(clean) :][:, :, :1] if self.last is None else self.last
        if not clean:
            return before.expand_as(latents)
        newest = latents[:, :, -1:]
        return torch.cat([newest.expand(-1, -1, noisy, -1, -1), before.expand(-1, -1, clean, -1, -1)], 2)

    def hold(self, latents: Tensor, clean: int = 0) -> None:
        """Note what the next pass has in flight, (B, C, n, h, w): all of it or its last `clean` can be committed."""
        self.in_flight = latents[:, :, -clean:] if clean else latents

    def commit(self) -> None:
        """Keep the chunk in flight, as last written, for the chunks to come."""
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; run a pass over the cache first")
        count = self.in_flight.shape[2]
        last = self.in_flight[:, :, -1:].clone()
        # A chunk longer than the window would write a ring slot twice; only its newest latents can stay.
        kept = range(max(0, count - self.config.window), count)
        source = [self.config.tail - count + offset for offset in kept]
        since = self.position - self.start
        target = [self.config.tail + (since + offset) % self.config.window for offset in kept]
        filled = min(since + count, self.config.window)
        for memory in self.memories():
            memory.commit(source, target, filled)
        self.position, self.last, self.in_flight = self.position + count, last, None

    def clear(self, position: int = 0) -> None:
        """Forget everything; the next latent stands at `position`."""
        for memory in self.memories():
            memory.filled = 0
        self.position = self.start = position
        self.last, self.in_flight = None, None

    def snapshot(self, *, on_host: bool = False) -> CacheSnapshot:
        device = torch.device("cpu") if on_host else self.device
        tensors = tuple(tensor.to(device, copy=True) for memory in self.memories() for tensor in memory.tensors())
        return CacheSnapshot(tensors, self.last, self.position, self.start)

    def restore(self, snapshot: CacheSnapshot) -> None:
        kept = iter(snapshot.tensors)
        for memory in self.memories():
            for tensor in memory.tensors():
                tensor.copy_(next(kept))
            memory.filled = min(snapshot.position - snapshot.start, self.config.window)
        self.position, self.start = snapshot.position, snapshot.start
        self.last, self.in_flight = snapshot.last, None
