"""Games of the arena encoded once and kept: drawing them costs a CPU ten times what learning from them does.

A bank is a folder of safetensors shards. Each shard holds `SHARD` games of `LATENTS` latents: `latents` as the codec
encodes the game, `stills` as it would encode each latent's last frame shown four times, and the action `rows`. A clip
may begin at any latent: it then starts from the still there, as a session starts from its image.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.model.tiny_vae import TinyVAE, video_to_chunks
from scope_play.train.common import generator, seed_of
from scope_play.train.data import Clips, frames_of

SHARD = 40
LATENTS = 64


class LatentBank:
    """Clips from encoded games, in memory as float16. `games` is how many there are."""

    def __init__(self, shards: list[dict[str, Tensor]], seed: int = 0) -> None:
        self._latents, self._stills, self._rows = (
            torch.cat([shard[name] for shard in shards]) for name in ("latents", "stills", "rows")
        )
        self._seed = seed

    @property
    def games(self) -> int:
        return len(self._latents)

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> tuple[Tensor, Tensor]:
        """Latents float32 (batch, C, latents, h, w) and rows float32 (batch, 4 (latents - 1), 10) of random stretches.

        Raises ScopeError when games are shorter than that.
        """
        length = self._latents.shape[1]
        if latents > length:
            raise ScopeError(f"clips of {latents} latents were asked of a bank of games of {length}; ask for fewer")
        draw = generator(self._seed, f"bank/{purpose}", step)
        game = torch.randint(self.games, (batch,), generator=draw)
        first = torch.randint(length - latents + 1, (batch,), generator=draw)
        index = first[:, None] + torch.arange(latents)
        found = self._latents[game[:, None], index]
        found[:, 0] = self._stills[game, first]
        rows = first[:, None] * FRAMES_PER_LATENT + torch.arange(FRAMES_PER_LATENT * (latents - 1))
        return found.float().transpose(1, 2).contiguous(), self._rows[game[:, None], rows].float()


def open_bank(
    folder: Path, codec: TinyVAE, games: int, *, seed: int, threads: int = 1, report: Callable[[str], None] = print
) -> LatentBank:
    """The bank in `folder`, made or extended with `codec` until it has at least `games` games.

    Raises ScopeError for a shard that is damaged or was made with latents of another shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [folder / f"games-{number:04d}.safetensors" for number in range(-(-games // SHARD))]
    missing = [(number, path) for number, path in enumerate(wanted) if not path.is_file()]

    def make(item: tuple[int, Path]) -> None:
        torch.set_num_threads(1)
        number, path = item
        with replacing(path) as beside:
            save_file(encode_games(codec, seed_of(seed, "bank", number)), beside)
        report(f"bank: {path.name} of {len(wanted)}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(make, missing))
    shards = [_read(path, codec.config.latent_channels) for path in wanted]
    return LatentBank(shards, seed)


@torch.inference_mode()
def encode_games(codec: TinyVAE, seed: int) -> dict[str, Tensor]:
    """One shard: `SHARD` games from `seed` on."""
    from scope_play.arena.behaviour import sample_clip

    height, width = codec.config.frame
    parts: dict[str, list[Tensor]] = {"latents": [], "stills": [], "rows": []}
    for game in range(SHARD):
        clip = sample_clip(1, frames_of(LATENTS), (seed + game) % 2**62, height=height, width=width, threads=1)
        video = Clips(clip.frames, clip.rows).video()
        chunks = video_to_chunks(video)[0]
        parts["latents"].append(codec.encode_chunk(chunks).half())
        parts["stills"].append(codec.encode_chunk(chunks[:, :, -1:].expand(-1, -1, 4, -1, -1)).half())
        parts["rows"].append(torch.from_numpy(clip.rows[0, :-1]).half())
    return {name: torch.stack(tensors).contiguous() for name, tensors in parts.items()}


def _read(path: Path, channels: int) -> dict[str, Tensor]:
    try:
        shard = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ScopeError(f"{path} is damaged ({error}); remove it, and it is made again") from error
    found = shard["latents"].shape[2]
    if found != channels:
        raise ScopeError(f"{path} holds latents of {found} channels, the codec makes {channels}; use another --bank")
    return shard
