"""A folder of encoded clips: shards of latents and rows, and an index that is replaced only when a shard is whole.

index.json                 what made it, every clip, and every recording that was left out, with the reason
shard-00000.safetensors    `latents/<clip>` (F, C, h, w) and `rows/<clip>` (N, 10)
captions.safetensors       `<number>` (L, D): the embedding of each distinct prompt, where the model takes text
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import for_people, replacing
from scope_play.records import read_record, to_json

INDEX, CAPTIONS = "index.json", "captions.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class ClipEntry:
    """One clip: its number, shard, latents, prompt's number, recording and split ("train" or "validation")."""

    clip: int
    shard: int
    latents: int
    caption: int
    source: str
    split: str


@dataclass(frozen=True)
class Index:
    """model: its name and the SHA-256 of what encoded. size: of the pictures. done: recordings that need no second
    look. left_out: those that gave nothing, with the reason."""

    model: Mapping[str, str]
    size: tuple[int, int]
    clips: tuple[ClipEntry, ...] = ()
    captions: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def shards(self) -> int:
        return 1 + max((entry.shard for entry in self.clips), default=-1)


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def read_index(folder: Path) -> Index:
    """Raises ScopeError where there is none, or it is not of this format."""
    path = folder / INDEX
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"{for_people(folder)} holds no encoded clips ({error}); make them with scope-play train encode"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ScopeError(f"{for_people(path)} is not of format {FORMAT}; encode the clips again")
    return read_record(Index, found, str(path))


def write_index(folder: Path, index: Index) -> None:
    with replacing(folder / INDEX) as beside:
        beside.write_text(json.dumps(to_json(index), indent=1) + "\n", encoding="utf-8")
