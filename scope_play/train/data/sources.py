"""Where training clips come from: the arena, rendered as they are needed, or clip folders on disk.

Both give the same thing for the same (seed, step), so that a resumed run sees what the unbroken run would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scope_play.actions import FRAMES_PER_LATENT, ROW_WIDTH
from scope_play.train.loop import seed_of

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
