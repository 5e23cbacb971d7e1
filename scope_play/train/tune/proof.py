"""What the recipe's proof begins from, where the truth is known: games of the arena as shards, and a network that has
learned nothing.

    python -m scope_play.train.tune.proof games --model nano-96x160 --out runs/games --clips 30000
    python -m scope_play.train.tune.proof blank --model nano-96x160 --out runs/blank

Latents are nano's, and come from the simulator without a picture being drawn: what `train encode` makes of recordings
of these games, but for what recognising a frame gets wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from scope_play.errors import ScopeError
from scope_play.files import for_people, replacing
from scope_play.loading.nano import to_native_json
from scope_play.model.dit.config import NANO
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.sampling.stream_config import StreamConfig
from scope_play.train.data.games import Games
from scope_play.train.shards.encode import split_of
from scope_play.train.shards.layout import INDEX, ClipEntry, Index, shard_path, write_index
from scope_play.train.tune.start import Start, open_start
from scope_play.train.world import initialise
from scope_play.weights.native import write_native_folder

TOGETHER = 500
"""Clips that are played side by side, and lie in one shard."""
STEPS, SHIFT, WINDOW = 30, 5.0, 12
"""How the untrained network is to be sampled: as SCOPE's are, by StreamConfig."""


def write_games(
    model: str, out: Path, clips: int, latents: int, *, seed: int = 0, report: Callable[[str], None] = print
) -> Index:
    """Shards of `clips` clips of `latents` latents, in the latents of a native `model`. Raises ScopeError where `out`
    holds some already."""
    if (out / INDEX).exists():
        raise ScopeError(f"{for_people(out)} holds encoded clips; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    start, codec = _nano(model)
    games = Games(codec, seed)
    entries: list[ClipEntry] = []
    for number, first in enumerate(range(0, clips, TOGETHER)):
        made, rows = games.clips(min(TOGETHER, clips - first), latents, "proof", number)
        _write_shard(out, number, first, made, rows)
        for clip in range(first, first + len(made)):
            name = f"game {clip}"
            entries.append(ClipEntry(clip, number, latents, 0, name, split_of(name, 0.02)))
        report(f"{len(entries)} of {clips} clips")
    index = Index(start.described, codec.config.frame, tuple(entries), ("",))
    write_index(out, index)
    return index


def _write_shard(out: Path, number: int, first: int, latents: torch.Tensor, rows: torch.Tensor) -> None:
    from safetensors.torch import save_file

    tensors = {f"latents/{first + n}": clip.transpose(0, 1).contiguous() for n, clip in enumerate(latents)}
    tensors |= {f"rows/{first + n}": some.contiguous() for n, some in enumerate(rows)}
    with replacing(shard_path(out, number)) as beside:
        save_file(tensors, beside)


def write_blank(model: str, out: Path, *, dim: int, layers: int, seed: int = 0) -> None:
    """A folder with `model`'s codec and a bidirectional network of nano's kind that has learned nothing.

    It predicts the clean latent: a token carries more numbers of noise than it is wide.
    """
    start, codec = _nano(model)
    world = replace(
        NANO,
        dim=dim,
        layers=layers,
        ffn_dim=4 * dim,
        in_channels=codec.config.latent_channels,
        out_channels=codec.config.latent_channels,
        causal=False,
        from_previous=False,
        noise_scale=1.0,
    )
    sampling = StreamConfig(steps=STEPS, shift=SHIFT, window=WINDOW)
    config = replace(start.native_config(), world=world, sampling=sampling, trained=False)
    with torch.no_grad():
        network = initialise(DiT(world), seed)
    write_native_folder(out, to_native_json(config), network, codec, torch.bfloat16)


def _nano(model: str) -> tuple[Start, NanoCodec]:
    start = open_start(model)
    if start.native is None:
        raise ScopeError(f"{start.place.name} has no latents of the arena; give nano-96x160, or nano")
    config = start.native_config().codec
    return start, start.native.codec(lambda: NanoCodec(config), torch.float32).eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scope_play.train.tune.proof", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    games, blank = kinds.add_parser("games"), kinds.add_parser("blank")
    for part in (games, blank):
        part.add_argument("--model", default="nano-96x160", help="whose autoencoder")
        part.add_argument("--out", type=Path, required=True)
        part.add_argument("--seed", type=int, default=0)
    games.add_argument("--clips", type=int, default=30_000)
    games.add_argument("--latents", type=int, default=21)
    blank.add_argument("--dim", type=int, default=256)
    blank.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    if args.kind == "games":
        write_games(args.model, args.out, args.clips, args.latents, seed=args.seed)
    else:
        write_blank(args.model, args.out, dim=args.dim, layers=args.layers, seed=args.seed)


if __name__ == "__main__":
    main()
