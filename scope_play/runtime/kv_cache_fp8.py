"""A memory of half the size: what is remembered lies in 8 bits, the chunk in flight as the network makes it.

Numbers are rounded once, when a chunk is committed, and never when they are read. Only the sinks are rounded anew for
each chunk, after they have been turned, from keys that are kept as they were made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from scope_play.kernels.fp8 import FP8, Remembered, Rounded, round_rows, widen
from scope_play.model.dit.layers import Rotation, rotate
from scope_play.runtime.kv_cache import CacheConfig, KVMemory


class Fp8Memory(KVMemory):
    """A KVMemory whose `keys` and `values` are the tail alone; the slots behind it are `remembered`."""

    def __init__(self, config: CacheConfig, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype):
        batch, tokens, heads, head_dim = shape
        self.config = config
        self.keys = torch.zeros(batch, config.tail, tokens, heads, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.sink_keys = torch.zeros(batch, config.sink, tokens, heads, head_dim, device=device, dtype=dtype)
        slots = (batch, config.sink + config.window, tokens, heads)
        self.past = Remembered(_empty(slots, head_dim, device), _empty(slots, head_dim, device))
        self.remembered = self.past
        self.filled = 0

    def visible(self, latents: int, behind: int = 0) -> tuple[Tensor, Tensor]:
        start = self.config.tail - behind - latents

        def join(own: Tensor, past: Rounded) -> Tensor:
            seen = Rounded(past.data[:, : self.filled], past.scale[:, : self.filled])
            return torch.cat([own[:, start:], widen(seen, own.dtype)], 1)

        return join(self.keys, self.past.keys), join(self.values, self.past.values)

    def commit(self, source: list[int], target: list[int], to_sink: list[int], filled: int) -> None:
        for own, past in zip((self.keys, self.values), self.past, strict=True):
            for tail, slot in zip(source, target, strict=True):
                _put(past, slice(slot - self.config.tail, slot - self.config.tail + 1), own[:, tail : tail + 1])
        for tail, slot in zip(source, to_sink, strict=False):
            self.sink_keys[:, slot] = self.keys[:, tail]
        self.filled = filled

    def turn_sink(self, rotation: Rotation, filled: int, behind: int) -> None:
        """As in KVMemory; `behind` is always 0, since what is in 8 bits is committed in a pass of its own."""
        _put(self.past.keys, slice(filled), rotate(self.sink_keys[:, :filled], rotation))

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.keys, self.values, self.sink_keys, *self.past.keys, *self.past.values)


def _empty(slots: tuple[int, ...], head_dim: int, device: torch.device) -> Rounded:
    return Rounded(torch.zeros(*slots, head_dim, device=device).to(FP8), torch.zeros(*slots, 1, device=device))


def _put(past: Rounded, slots: slice, x: Tensor) -> None:
    rounded = round_rows(x)
    past.data[:, slots] = rounded.data
    past.scale[:, slots] = rounded.scale
