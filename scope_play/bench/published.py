"""A folder of weights as SCOPE's makers publish it, with random numbers: names, shapes, types, shards, a tokenizer.

Written in streams: no more than a few hundred megabytes are ever in memory, whatever the size.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.encoder import UMT5_XXL, TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import WAN22_VAE, VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.weights.checkpoint import build_on_meta
from scope_play.weights.find import INDEX, TEXT_FILE, TOKENIZER, VAE_FILE
from scope_play.weights.hashing import sha256_of_file
from scope_play.weights.tokenizer import SLOW

SHARDS = 3
LISTING = "listing.json"
POOL = 1 << 22
"""Random numbers that all tensors are cut from."""
PIECES = 290
"""Of the tokenizer, which knows little but bytes."""


@dataclass(frozen=True)
class Sizes:
    """The three networks of a folder."""

    dit: DiTConfig
    vae: VAEConfig
    text: TextEncoderConfig


SIZES = {
    "full": Sizes(SCOPE_5B, WAN22_VAE, UMT5_XXL),
    "small": Sizes(
        DiTConfig(dim=128, layers=2, heads=1, ffn_dim=256, text_dim=32),
        VAEConfig(dim=8, dec_dim=8),
        TextEncoderConfig(vocab=300, dim=32, dim_attn=48, dim_ffn=64, heads=4, layers=3),
    ),
}


class Pool:
    """Standard normal numbers, the same for the same seed, to be cut to any length."""

    def __init__(self, seed: int = 0) -> None:
        self.numbers = torch.from_numpy(np.random.default_rng(seed).standard_normal(POOL, dtype=np.float32))

    def pieces(self, name: str, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """A tensor's numbers, flat and in order: weights shrink with their inputs, gains lie near 1, biases near 0."""
        left = prod(shape)
        gain = 1.0 if (len(shape) == 1 and name.endswith("weight")) or name.endswith("gamma") else 0.0
        scale = 0.5 * prod(shape[1:]) ** -0.5 if len(shape) > 1 and not gain else 0.05
        start = sum(name.encode()) * 7919 % POOL
        while left:
            piece = self.numbers[start : start + left] * scale + gain
            yield piece
            left, start = left - len(piece), 0


def writers(sizes: Sizes) -> dict[str, Callable[[Path], None]]:
    """What writes each file of the folder, by its path there: the same bytes each time."""
    pool = Pool()
    shards = _shards(_shapes(lambda: DiT(sizes.dit)))
    index = {
        "metadata": {"total_size": 2 * sum(prod(shape) for shard in shards.values() for shape in shard.values())},
        "weight_map": {name: file for file, shard in shards.items() for name in shard},
    }
    vae, text = _shapes(lambda: VAENetwork(sizes.vae)), _shapes(lambda: TextEncoder(sizes.text))
    found: dict[str, Callable[[Path], None]] = {
        file: partial(_write_safetensors, shapes=shard, pool=pool) for file, shard in shards.items()
    }
    found[INDEX] = partial(_write_text, text=json.dumps(index))
    found[VAE_FILE] = partial(_write_pickle, shapes=vae, dtype=torch.float32, pool=pool)
    found[TEXT_FILE] = partial(_write_pickle, shapes=text, dtype=torch.bfloat16, pool=pool)
    found[f"{TOKENIZER}/{SLOW}"] = write_spiece
    return found


def publish(folder: Path, sizes: Sizes, say: Callable[[str], None] = lambda text: None, *, keep: bool = True) -> Path:
    """Writes the folder, and LISTING beside it with every file's size and hash; without `keep`, that alone.

    Raises OSError when the disk is full.
    """
    listing = {}
    for name, write in writers(sizes).items():
        say(name)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        listing[name] = {"size": path.stat().st_size, "sha256": sha256_of_file(path)}
        if not keep:
            path.unlink()
    (folder.parent / LISTING).write_text(json.dumps(listing), encoding="utf-8")
    return folder


def _shapes(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in build_on_meta(build).state_dict().items()}


def _shards(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The transformer's tensors in SHARDS files of about equal size."""
    total = sum(map(prod, shapes.values()))
    shards: dict[str, dict[str, tuple[int, ...]]] = {
        f"model-{number + 1:05}-of-{SHARDS:05}.safetensors": {} for number in range(SHARDS)
    }
    files, counted = list(shards), 0
    for name, shape in shapes.items():
        shards[files[min(SHARDS - 1, counted * SHARDS // total)]][name] = shape
        counted += prod(shape)
    return shards


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]], pool: Pool) -> None:
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for piece in pool.pieces(name, shape):
                file.write(piece.to(torch.bfloat16).view(torch.int16).numpy().data)


def _write_pickle(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, pool: Pool) -> None:
    """A `.pth` of a flat dict: first its outline, then the numbers, through a mapping of the file."""
    # Memory that nobody touches is not taken.
    with torch.serialization.skip_data():
        torch.save({name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}, path)
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        outline = torch.load(path, mmap=True, weights_only=True)
    for name, tensor in outline.items():
        flat, start = tensor.view(-1), 0
        for piece in pool.pieces(name, tuple(tensor.shape)):
            flat[start : start + len(piece)] = piece
            start += len(piece)


def write_spiece(path: Path) -> None:
    """A sentencepiece model as UMT5's is made, trained on a few lines."""
    from sentencepiece import SentencePieceTrainer

    words = [f"{a}{b}{c}" for a in ("wa", "ko", "tri") for b in ("n", "sk", "l") for c in ("a", "ed", "ing", "o")]
    lines = (" ".join(words[(7 * row + 5 * place) % len(words)] for place in range(9)) + ", ok." for row in range(200))
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=PIECES,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            byte_fallback=True,
            hard_vocab_limit=False,
            minloglevel=2,
        )
