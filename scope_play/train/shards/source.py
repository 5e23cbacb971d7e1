"""Training clips from shards: random stretches, read from the files as they are needed, never all in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.files import for_people
from scope_play.model.umt5.tokenizer import TOKENS
from scope_play.train.loop import generator
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.shards.layout import CAPTIONS, read_index, shard_path


class ShardSource:
    """Stretches of `latents` latents of one split; every one that there is comes as often as any other.

    Sample n of a step is drawn by (seed, n, step) alone, so any number of processes sees the same. Raises ScopeError
    where no clip is long enough.
    """

    def __init__(self, folder: Path, *, latents: int, seed: int = 0, split: str = "train") -> None:
        self.folder, self.index = folder, read_index(folder)
        self._seed, self._split = seed, split
        self._entries = [e for e in self.index.clips if e.split == split and e.latents >= latents]
        if not self._entries:
            longest = max((e.latents for e in self.index.clips if e.split == split), default=0)
            raise ScopeError(
                f"{for_people(folder)} has no {split} clip of {latents} latents, its longest has {longest}; encode "
                f"longer ones, or set latents lower"
            )
        self._ends = np.cumsum([e.latents - latents + 1 for e in self._entries])
        self._latents = latents
        self._captions = self._open_file(folder / CAPTIONS) if (folder / CAPTIONS).exists() else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        entry = self._entries[0]
        with self._open_file(shard_path(self.folder, entry.shard)) as shard:
            return tuple(shard.get_slice(f"latents/{entry.clip}").get_shape()[1:])

    def no_text(self) -> Tensor | None:
        """The context (1, 512, D) of no prompt."""
        return None if self._captions is None else padded(self._captions.get_tensor("none"))[None]

    def batch(self, samples: range, latents: int, step: int) -> ClipBatch:
        if latents != self._latents:
            raise ValueError(
                f"clips of {latents} latents were asked for, shards were looked through for {self._latents}"
            )
        made = [self._sample(number, step) for number in samples]
        latent, rows, contexts = zip(*made, strict=True)
        stacked = torch.stack(rows)
        context = None if self._captions is None else torch.stack(contexts)
        return ClipBatch(torch.stack(latent), stacked[..., :6], stacked[..., 6:], context)

    def _sample(self, number: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = generator(self._seed, f"shards/{self._split}/{number}", step)
        place = int(torch.randint(int(self._ends[-1]), (), generator=draw))
        at = int(np.searchsorted(self._ends, place, "right"))
        entry, begin = self._entries[at], place - (int(self._ends[at - 1]) if at else 0)
        # Opened for each sample: pages of a file stay with the process for as long as it is mapped.
        with self._open_file(shard_path(self.folder, entry.shard)) as shard:
            latents = shard.get_slice(f"latents/{entry.clip}")[begin : begin + self._latents].clone()
            rows = shard.get_slice(f"rows/{entry.clip}")[4 * begin : 4 * (begin + self._latents - 1)].clone()
        context = torch.empty(0) if self._captions is None else padded(self._captions.get_tensor(str(entry.caption)))
        return latents.float().transpose(0, 1), rows.float(), context

    @staticmethod
    def _open_file(path: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ScopeError(f"{for_people(path)} is missing or damaged ({error}); encode the clips again") from error


def padded(context: Tensor) -> Tensor:
    """(L, D) -> (512, D): the positions of padding are zero, and count (SPEC.md section 3)."""
    return F.pad(context.float(), (0, 0, 0, TOKENS - len(context)))
