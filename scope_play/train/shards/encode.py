"""Recordings to shards of latents, one recording at a time: what is whole stays, and a second run goes on after it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.files import for_people, replacing
from scope_play.recording.video import frames_at
from scope_play.session.codec import Codec
from scope_play.train.data.folders import centre_box
from scope_play.train.data.sources import pixels
from scope_play.train.shards.items import Found, Item, find_items
from scope_play.train.shards.layout import (
    CAPTIONS,
    INDEX,
    ClipEntry,
    Index,
    read_index,
    shard_path,
    write_index,
)

Embed = Callable[[Sequence[str]], dict[str, Tensor]]
"""Prompts to contexts (1, L, D), without padding."""


@dataclass(frozen=True)
class Encoder:
    """What encodes: a codec at a size, and prompts, where the model takes them. `model` tells it from others."""

    codec: Codec
    size: tuple[int, int]
    model: dict[str, str]
    embed: Embed | None = None
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"


def encode(
    sources: Sequence[Path],
    out: Path,
    encoder: Encoder,
    *,
    shard_bytes: int = 256 * 2**20,
    validation: float = 0.02,
    report: Callable[[str], None] = print,
) -> Index:
    """Encodes all recordings of `sources` that `out` does not hold yet. `validation`: share of games kept apart.

    Raises ScopeError for a source that is none, or where `out` was encoded by another model.
    """
    out.mkdir(parents=True, exist_ok=True)
    index = _begin(out, encoder)
    captions = list(index.captions)
    waiting: dict[str, Tensor] = {}
    entries: list[ClipEntry] = []
    done: list[str] = []
    left_out = dict(index.left_out)

    def close_shard() -> None:
        nonlocal index
        if entries:
            _write_shard(out, index.shards, waiting)
        _write_captions(out, captions, encoder)
        index = replace(
            index,
            clips=(*index.clips, *entries),
            captions=tuple(captions),
            done=(*index.done, *done),
            left_out=left_out,
        )
        write_index(out, index)
        waiting.clear()
        entries.clear()
        done.clear()

    known = {*index.done, *index.left_out}
    for found in _recordings(sources):
        if found.name in known:
            continue
        known.add(found.name)
        if found.why:
            left_out[found.name] = found.why
            report(f"left out: {found.why}")
            continue
        for item in found.items:
            if item.caption not in captions:
                captions.append(item.caption)
            number = len(index.clips) + len(entries)
            latents = latents_of(item, encoder)
            waiting[f"latents/{number}"] = latents
            waiting[f"rows/{number}"] = torch.from_numpy(np.ascontiguousarray(item.rows[: 4 * (len(latents) - 1)]))
            split = split_of(item.game, validation)
            entries.append(
                ClipEntry(number, index.shards, len(latents), captions.index(item.caption), item.name, split)
            )
        done.append(found.name)
        report(f"{found.name}: {sum(item.end - item.first for item in found.items)} frames")
        if sum(tensor.nbytes for tensor in waiting.values()) >= shard_bytes:
            close_shard()
    close_shard()
    if not index.clips:
        raise ScopeError(f"nothing could be encoded: {next(iter(left_out.values()), 'the sources hold no recording')}")
    return index


def split_of(game: str, validation: float) -> str:
    """The same for a game in every folder and every run."""
    drawn = int.from_bytes(hashlib.blake2b(game.encode(), digest_size=8).digest(), "big") / 2**64
    return "validation" if drawn < validation else "train"


@torch.no_grad()
def latents_of(item: Item, encoder: Encoder) -> Tensor:
    """(F, C, h, w) on the CPU; frames are read and encoded four at a time, those that fill no latent are left."""
    count = 1 + 4 * ((item.end - item.first - 1) // 4)
    frames = frames_at(item.video, range(item.first, item.first + count))
    stream = encoder.codec.encoder()
    made = []
    for chunk in _chunks(frames, encoder.size):
        video = pixels(chunk[None], encoder.device)
        made.append(stream.push(video).to("cpu", encoder.dtype))
    return torch.cat(made, 2)[0].transpose(0, 1).contiguous()


def _chunks(frames: Iterator[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The start image alone, then four frames at a time, uint8 (n, H, W, 3), cropped about the centre and resized."""
    from PIL import Image

    waiting: list[np.ndarray] = []
    wanted = 1
    for frame in frames:
        box = centre_box(frame.shape[1], frame.shape[0], size[0] / size[1])
        image = Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
        waiting.append(np.asarray(image))
        if len(waiting) == wanted:
            yield np.stack(waiting)
            waiting, wanted = [], 4


def _recordings(sources: Sequence[Path]) -> Iterator[Found]:
    for source in sources:
        yield from find_items(source)


def _begin(out: Path, encoder: Encoder) -> Index:
    if not (out / INDEX).exists():
        if any(out.glob("*.safetensors")):
            raise ScopeError(f"{for_people(out)} holds other files; give a new folder for encoded clips")
        return Index(encoder.model, encoder.size)
    index = read_index(out)
    if (index.model.get("sha256"), tuple(index.size)) != (encoder.model.get("sha256"), tuple(encoder.size)):
        raise ScopeError(
            f"{for_people(out)} was encoded by {index.model.get('model')} at {index.size}, not by this model at "
            f"{encoder.size}; give a new folder"
        )
    return index


def _write_shard(out: Path, number: int, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with replacing(shard_path(out, number)) as beside:
        save_file(tensors, beside)


def _write_captions(out: Path, captions: Sequence[str], encoder: Encoder) -> None:
    """All prompts' embeddings, each made once; the empty one, for dropout, is `none`."""
    from safetensors.torch import load_file, save_file

    if encoder.embed is None:
        return
    path = out / CAPTIONS
    kept = load_file(path) if path.exists() else {}
    wanted = {"none": "", **{str(number): text for number, text in enumerate(captions)}}
    missing = {name: text for name, text in wanted.items() if name not in kept}
    if missing:
        made = encoder.embed(list(dict.fromkeys(missing.values())))
        with replacing(path) as beside:
            save_file(kept | {name: made[text][0].clone() for name, text in missing.items()}, beside)
