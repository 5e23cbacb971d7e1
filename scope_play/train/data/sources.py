"""Where training clips come from: the arena, rendered as they are needed, or clip folders on disk.

Both give the same thing for the same (seed, step), so that a resumed run sees what the unbroken run would have seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scope_play.actions import FRAMES_PER_LATENT, ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.train.loop import generator, seed_of

GAME = 80
"""Frames of the games that single moments are taken from."""


@dataclass(frozen=True)
class Clips:
    """A batch of clips: frames uint8 (B, T, H, W, 3), rows float32 (B, T, 10). T is 1 + 4n."""

    frames: np.ndarray
    rows: np.ndarray

    def video(self, device: torch.device | str = "cpu") -> Tensor:
        """(B, 3, T, H, W) in [-1, 1]."""
        return pixels(self.frames, device)


@dataclass(frozen=True)
class Moments:
    """Single frames: `frames` uint8 (N, H, W, 3), the same without weapon and HUD, and what the simulator knows of them
    (`train.states`), float32 (N, F)."""

    frames: np.ndarray
    court: np.ndarray
    features: np.ndarray


class ClipSource(Protocol):
    """Clips by step. `purpose` separates independent draws: training, validation, student."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> Clips: ...


class MomentSource(Protocol):
    """Moments by step, for nano's autoencoder."""

    def moments(self, count: int, purpose: str, step: int) -> Moments: ...
    def known(self, games: int, purpose: str, step: int) -> np.ndarray:
        """Features float32 (N, F) of every frame of so many games."""


def frames_of(latents: int) -> int:
    """Video frames shown by this many latent frames."""
    return FRAMES_PER_LATENT * (latents - 1) + 1


@dataclass(frozen=True)
class ArenaSource:
    """Sessions of the arena from their start, rendered on the fly."""

    seed: int = 0
    height: int = 96
    width: int = 160
    threads: int = 1

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> Clips:
        from scope_play.arena import sample_clip

        seed = seed_of(self.seed, purpose, step)
        clip = sample_clip(batch, frames_of(latents), seed, height=self.height, width=self.width, threads=self.threads)
        return Clips(clip.frames, clip.rows)

    def moments(self, count: int, purpose: str, step: int) -> Moments:
        """Each of a game of its own; only that frame is drawn, what came before it is not."""
        from scope_play.arena.behaviour import sample_states
        from scope_play.arena.config import ArenaConfig
        from scope_play.arena.render import Renderer
        from scope_play.train.data.states import state_features

        seed = seed_of(self.seed, f"moments/{purpose}", step) % 2**62
        states, _ = sample_states(count, GAME, seed)
        shown = states[np.random.default_rng(seed).integers(0, GAME, count), np.arange(count)]
        renderer = Renderer(ArenaConfig(), self.height, self.width, self.threads)
        frames, court = (renderer.render(shown, overlay=overlay)[0] for overlay in (True, False))
        return Moments(frames, court, state_features(shown))

    def known(self, games: int, purpose: str, step: int) -> np.ndarray:
        from scope_play.arena.behaviour import sample_states
        from scope_play.train.data.states import state_features

        states, _ = sample_states(games, GAME, seed_of(self.seed, f"known/{purpose}", step) % 2**62)
        return state_features(states.reshape(-1))


class FolderSource:
    """Recorded clip folders (video.mp4, actions_raw.parquet, metadata.json): random stretches of them.

    A stretch that begins inside a recording is treated as a session of its own, as at inference.
    """

    def __init__(self, folders: Sequence[Path], *, seed: int = 0, height: int, width: int) -> None:
        if not folders:
            raise ScopeError("no clip folders given; name folders that hold video.mp4 and actions_raw.parquet")
        self.seed, self.height, self.width = seed, height, width
        self._folders = [_checked(folder) for folder in folders]
        self._cache: dict[Path, Clips] = {}

    def clips(self, batch: int, latents: int, purpose: str, step: int) -> Clips:
        draw = generator(self.seed, f"folders/{purpose}", step)
        count = frames_of(latents)
        frames, rows = [], []
        for _ in range(batch):
            folder = self._folders[int(torch.randint(len(self._folders), (), generator=draw))]
            clip = self._read(folder)
            available = clip.frames.shape[1]
            if available < count:
                raise ScopeError(
                    f"{folder} has {available} frames where {count} are needed; use longer clips or fewer --latents"
                )
            begin = int(torch.randint(available - count + 1, (), generator=draw))
            frames.append(clip.frames[0, begin : begin + count])
            rows.append(clip.rows[0, begin : begin + count])
        return Clips(np.stack(frames), np.stack(rows))

    def _read(self, folder: Path) -> Clips:
        if folder not in self._cache:
            self._cache[folder] = read_clip(folder, self.height, self.width)
        return self._cache[folder]


def clip_folders(root: Path) -> list[Path]:
    """The clip folders at or below `root`, sorted; unfinished recordings (`*.partial`) are left out."""
    videos = sorted(root.rglob("video.mp4"))
    found = [video.parent for video in videos if video.parent.suffix != ".partial"]
    if not found:
        raise ScopeError(
            f"{root} holds no clip folder with a video.mp4; give the folder that recordings were written to"
        )
    return found


def read_clip(folder: Path, height: int, width: int) -> Clips:
    """One recorded clip, cropped about the centre and resized; its last row repeats, or rows are cut, to its frames."""
    import av
    from PIL import Image

    from scope_play.actions import fit_rows, read_actions

    frames = []
    try:
        with av.open(str(folder / "video.mp4")) as container:
            for frame in container.decode(video=0):
                image = frame.to_image()
                box = _centre_box(image.width, image.height, height / width)
                frames.append(np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box)))
    except av.FFmpegError as error:
        raise ScopeError(f"{folder / 'video.mp4'} cannot be decoded ({error}); run scope-play recover on it") from error
    if not frames:
        raise ScopeError(f"{folder / 'video.mp4'} has no frames; remove that folder")
    rows = fit_rows(read_actions(folder / "actions_raw.parquet"), len(frames))
    return Clips(np.stack(frames)[None], rows[None].astype(np.float32))


def _centre_box(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    wide, high = min(width, height / aspect), min(height, width * aspect)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def _checked(folder: Path) -> Path:
    for name in ("video.mp4", "actions_raw.parquet", "metadata.json"):
        if not (folder / name).is_file():
            raise ScopeError(
                f"{folder} has no {name}; a clip folder holds video.mp4, actions_raw.parquet and metadata.json"
            )
    try:
        fps = json.loads((folder / "metadata.json").read_text()).get("fps", 20)
    except (json.JSONDecodeError, AttributeError) as error:
        raise ScopeError(f"{folder / 'metadata.json'} is not a JSON object ({error}); remove that folder") from error
    if fps != 20:
        raise ScopeError(f"{folder / 'metadata.json'} says fps {fps} where 20 is needed; resample the clip")
    return folder


def pixels(frames: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (..., H, W, 3), one or two axes before them -> (N, 3, H, W) or (B, 3, T, H, W) in [-1, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    return tensor.movedim(-1, 1).float().mul_(2 / 255).sub_(1)


def split_rows(rows: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Rows (B, N, 10) -> buttons (B, N, 6) and sticks (B, N, 4)."""
    if rows.shape[-1] != ROW_WIDTH:
        raise ValueError(f"rows need {ROW_WIDTH} columns, got {rows.shape[-1]}")
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    return tensor[..., :6], tensor[..., 6:]
