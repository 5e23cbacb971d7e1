"""What a block asks of the keys and values of earlier latents; `scope_play.runtime.kv_cache` keeps them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class AttentionMemory(Protocol):
    """Of one attention in one block."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take those of the latents in flight, (B, n, tokens, heads, head_dim) each; return all that may be seen."""


class LayerMemory(Protocol):
    """Of one block; None where it has no such attention."""

    @property
    def frames(self) -> AttentionMemory: ...

    @property
    def pixels(self) -> AttentionMemory | None: ...

    @property
    def buttons(self) -> AttentionMemory | None: ...
