"""Keys and values of earlier latents: sink + sliding window + the chunk in flight, in one preallocated buffer.

Slots lie `[tail | sink | window ring]` along the frame axis. The tail holds the chunk being denoised, rewritten in
every pass and pushed against its end, so that what may be seen is always one contiguous run of slots: no mask, no
copy, and a slot outside the run can hold anything. Keys are stored rotated to their own position; since rotary scores
depend on differences alone, the ring never needs touching however long a session lasts. Only the sinks are turned
again for each chunk, from a pristine copy, so that they stay just before the window (see FrameLayout.sink_shift).

A joined pass commits the chunk before while it denoises the next. Its tail is `[noisy | clean | sinks as the noisy
chunk sees them]`, and a mask says who sees what; see `commit_beside`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels.fp8 import Remembered
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.layers import Rotation, rotate
from scope_play.model.dit.layout import FrameLayout, commit_beside

NUMBERS = ("full", "fp8")


@dataclass(frozen=True)
class CacheConfig:
    """Sizes in latent frames: `chunk` denoised at once, `window` remembered, `sink` first frames kept for ever.

    `numbers`: "full", the type the network computes in, or "fp8" for what is remembered; see `model.cache8`.
    `joined`: with room for passes that commit one chunk while they denoise the next.
    """

    window: int = 12
    chunk: int = 1
    sink: int = 0
    numbers: str = "full"
    joined: bool = False

    def __post_init__(self) -> None:
        if self.numbers not in NUMBERS:
            raise ScopeError(f"cache {self.numbers!r} is not known; use one of {', '.join(NUMBERS)}")
        if self.joined and self.numbers != "full":
            raise ScopeError(f"a cache in {self.numbers} has no room for joined passes; commit chunks on their own")
        for name, least in (("window", 1), ("chunk", 1), ("sink", 0)):
            if getattr(self, name) < least:
                raise ScopeError(f"cache {name} is {getattr(self, name)}, but must be at least {least}")

    @property
    def tail(self) -> int:
        return 2 * self.chunk + self.sink if self.joined else self.chunk

    @property
    def slots(self) -> int:
        return self.tail + self.sink + self.window


class KVMemory:
    """Keys and values of one attention in one layer: two tensors (B, slots, tokens, heads, head_dim)."""

    def __init__(self, config: CacheConfig, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype):
        batch, tokens, heads, head_dim = shape
        self.config = config
        self.keys = torch.zeros(batch, config.slots, tokens, heads, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.sink_keys = torch.zeros_like(self.keys[:, : config.sink])
        self.remembered: Remembered | None = None
        """The slots behind the tail where they are in 8 bits, and not part of `keys` and `values`."""
        self.filled = 0

    def append(self, k: Tensor, v: Tensor, behind: int = 0) -> tuple[Tensor, Tensor]:
        """Write the latents in flight (B, n, tokens, heads, head_dim); return all that may be seen, themselves first.

        `behind` slots of the tail stand after theirs.
        """
        end = self.config.tail - behind
        start = end - k.shape[1]
        self.keys[:, start:end] = k
        self.values[:, start:end] = v
        return self.visible(k.shape[1], behind)

    def visible(self, latents: int, behind: int = 0) -> tuple[Tensor, Tensor]:
        """Keys and values of the `latents` in flight, of the `behind` slots after them, and of what is remembered."""
        start, stop = self.config.tail - behind - latents, self.config.tail + self.filled
        return self.keys[:, start:stop], self.values[:, start:stop]

    def commit(self, source: list[int], target: list[int], to_sink: list[int], filled: int) -> None:
        """Keep latents of the tail: tail offset source[j] goes to slot target[j]; the first len(to_sink) are sinks."""
        # Slot by slot: an index made of a list would be copied to the device, and the host would wait for it.
        for tail, slot in zip(source, target, strict=True):
            self.keys[:, slot] = self.keys[:, tail]
            self.values[:, slot] = self.values[:, tail]
        for tail, slot in zip(source, to_sink, strict=False):
            self.sink_keys[:, slot] = self.keys[:, tail]
        self.filled = filled

    def turn_sink(self, rotation: Rotation, filled: int, behind: int) -> None:
        """Write the turned sinks to where they belong, or, if `behind`, to the tail's last so many slots."""
        start = self.config.tail - behind
        self.keys[:, start : start + filled] = rotate(self.sink_keys[:, :filled], rotation)
        if behind:
            self.values[:, start : start + filled] = self.values[:, start + behind : start + behind + filled]

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.keys, self.values, self.sink_keys)


def memory_kind(config: CacheConfig) -> type[KVMemory]:
    """What keeps the keys and values of all tokens."""
    from scope_play.runtime.kv_cache_fp8 import Fp8Memory

    return Fp8Memory if config.numbers == "fp8" else KVMemory


@dataclass
class LayerMemory:
    """The memories of one block; None where the block has no such attention."""

    frames: KVMemory
    pixels: KVMemory | None
    buttons: KVMemory | None

    def all(self) -> Iterator[KVMemory]:
        yield from (memory for memory in (self.frames, self.pixels, self.buttons) if memory is not None)


@dataclass(frozen=True)
class InFlight:
    """The latents (B, C, n, h, w) that a commit keeps, and how many slots of the tail stand behind theirs."""

    latents: Tensor
    behind: int


@dataclass(frozen=True)
class CacheSnapshot:
    """A copy of everything a StreamCache holds; `nbytes` on its device."""

    tensors: tuple[Tensor, ...]
    last: Tensor | None
    position: int

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
        """Latents committed so far, which is also the position of the next one."""
        self.in_flight: InFlight | None = None
        self.last: Tensor | None = None
        """The latent committed last, (B, C, 1, h, w)."""
        device = torch.device(device)

        def memory(kind: type[KVMemory], width: int) -> KVMemory:
            return kind(config, (batch, width, network.heads, network.head_dim), device, dtype)

        rows, acts = memory_kind(config), network.action is not None
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
        """Slots of sinks and window in use."""
        return next(self.memories()).filled

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for memory in self.memories() for tensor in memory.tensors())

    def layout(self, latents: int, clean: int = 0) -> FrameLayout:
        """Where the `latents` of the next pass stand; with `clean`, the last so many are the chunk it commits."""
        device = next(self.memories()).keys.device
        if clean:
            sizes = {"window": self.config.window, "sink": self.config.sink}
            return commit_beside(self.position, latents - clean, clean, **sizes, device=device)
        positions = torch.arange(self.position, self.position + latents, device=device)
        return FrameLayout(positions, positions)

    def behind(self, clean: int) -> int:
        """Slots of the tail behind the latents of a pass, `clean` of which it commits: the sinks that they see."""
        return min(self.position, self.config.sink) if clean else 0

    def hold(self, latents: Tensor, clean: int = 0) -> None:
        """Note what the next pass has in flight, (B, C, n, h, w): all of it or its last `clean` can be committed."""
        self.in_flight = InFlight(latents[:, :, -clean:], self.behind(clean))

    def commit(self) -> None:
        """Keep the chunk in flight, as last written, for the chunks to come."""
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; run a pass over the cache first")
        latents, behind, self.in_flight = self.in_flight.latents, self.in_flight.behind, None
        count = latents.shape[2]
        self.last = latents[:, :, -1:].clone()
        config, source, target, sinks = self.config, [], [], []
        # A chunk longer than the window would write a ring slot twice; only its newest latents can stay.
        for offset in range(count):
            latent = self.position + offset
            if latent < config.sink:
                sinks.append(latent)
                target.append(config.tail + latent)
            elif offset >= count - config.window:
                target.append(config.tail + config.sink + (latent - config.sink) % config.window)
            else:
                continue
            source.append(config.tail - behind - count + offset)
        self.position += count
        filled = min(self.position, config.sink + config.window)
        for memory in self.memories():
            memory.commit(source, target, sinks, filled)

    def sink_shift(self, clean: int = 0) -> int:
        """How far the sinks stand from where they were written, to sit just before the window of the next chunk.

        With `clean`, of the chunk that follows as many latents.
        """
        return max(0, self.position + clean - self.config.window - self.config.sink)

    def turn_sinks(self, frame_rotation: Rotation, pixel_rotation: Rotation, behind: int = 0) -> None:
        """Rotate the sink keys on by a shift: video attention with the first, the others with the second.

        `behind`: write them into so many last slots of the tail instead.
        """
        filled = min(self.position, self.config.sink)
        for layer in self.layers:
            for memory in layer.all():
                memory.turn_sink(frame_rotation if memory is layer.frames else pixel_rotation, filled, behind)

    def snapshot(self) -> CacheSnapshot:
        tensors = tuple(tensor.clone() for memory in self.memories() for tensor in memory.tensors())
        return CacheSnapshot(tensors, self.last, self.position)

    def restore(self, snapshot: CacheSnapshot) -> None:
        kept = iter(snapshot.tensors)
        for memory in self.memories():
            for tensor in memory.tensors():
                tensor.copy_(next(kept))
            memory.filled = min(snapshot.position, self.config.sink + self.config.window)
        self.position, self.last, self.in_flight = snapshot.position, snapshot.last, None
