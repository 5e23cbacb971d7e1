"""Games of the arena encoded once and kept: drawing them costs a CPU ten times what learning from them does.

A bank is a folder of safetensors shards. Each shard holds `SHARD` games of `LATENTS` latents: `latents` as the codec
encodes the game, `stills` as it would encode each latent's last frame shown four times, and the action `rows`. A clip
may begin at any latent: it then starts from the still there, as a session starts from its image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
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

    Raises ScopeError for a shard that is damaged or was encoded by another codec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker = fingerprint(codec)
    wanted = [folder / f"games-{number:04d}.safetensors" for number in range(-(-games // SHARD))]
    missing = [(number, path) for number, path in enumerate(wanted) if not path.is_file()]

    def make(item: tuple[int, Path]) -> None:
        torch.set_num_threads(1)
        number, path = item
        with replacing(path) as beside:
            save_file(encode_games(codec, seed_of(seed, "bank", number)), beside, metadata={"codec": maker})
        report(f"bank: {path.name} of {len(wanted)}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(make, missing))
    return LatentBank([_read(path, maker) for path in wanted], seed)


def fingerprint(codec: TinyVAE) -> str:
    """Tells codecs apart that encode differently; their decoders do not count."""
    maps = (codec.patch_map, codec.patch_mean, codec.place_weight, codec.picture_map, codec.picture_mean)
    digest = hashlib.sha256()
    for tensor in (*maps, codec.latent_std):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def encode_games(codec: TinyVAE, seed: int) -> dict[str, Tensor]:
    """One shard: `SHARD` games from `seed` on."""
    from scope_play.arena.behaviour import sample_clip

    height, width = codec.config.frame
    device = codec.picture_mean.device
    parts: dict[str, list[Tensor]] = {"latents": [], "stills": [], "rows": []}
    for game in range(SHARD):
        clip = sample_clip(1, frames_of(LATENTS), (seed + game) % 2**62, height=height, width=width, threads=1)
        video = Clips(clip.frames, clip.rows).video(device)
        chunks = video_to_chunks(video)[0]
        parts["latents"].append(codec.encode_chunk(chunks).half().cpu())
        parts["stills"].append(codec.encode_chunk(chunks[:, :, -1:].expand(-1, -1, 4, -1, -1)).half().cpu())
        parts["rows"].append(torch.from_numpy(clip.rows[0, :-1]).half())
    return {name: torch.stack(tensors).contiguous() for name, tensors in parts.items()}


def _read(path: Path, maker: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as shard:
            found = (shard.metadata() or {}).get("codec")
            tensors = {name: shard.get_tensor(name) for name in ("latents", "stills", "rows")}
    except (OSError, SafetensorError) as error:
        raise ScopeError(f"{path} is damaged ({error}); remove it, and it is made again") from error
    if found != maker:
        raise ScopeError(f"{path} was encoded by codec {found}, not by {maker}; give another --bank")
    return tensors
