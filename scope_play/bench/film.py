"""`scope-play bench film`: what a player's pictures cost beside the model, and what they take of the line.

The encoder's thread as the server has it, fed with a camera that never rests: it turns through a panorama whose
detail falls with its size as in photographs, comes nearer and goes back, over a still weapon; or with the arena. The
processor time is that thread's own, so that it holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from scope_play.actions import FPS, ROW_WIDTH
from scope_play.bench.report import RESULTS, write_result
from scope_play.errors import ScopeError
from scope_play.images import parse_size
from scope_play.loading.request import LoadRequest
from scope_play.session.interfaces import WorldSpec

CHUNK = 4
CONTENTS = ("camera", "arena")
TURN = 0.012
"""Of the picture's width, to turn each frame: once through it in four seconds."""


@dataclass(frozen=True)
class Figures:
    """Bits a second, and the share of a core that encoding takes, at `FPS`."""

    content: str
    height: int
    width: int
    bits: float
    key_bytes: int
    core: float


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--size", default="480x832", metavar="HxW")
    add("--seconds", type=float, default=20.0, help="of play, encoded as fast as it goes")
    add("--json", type=Path, nargs="?", const=RESULTS, metavar="FOLDER", help="also write film.json, to this folder")


def run(args: argparse.Namespace) -> int:
    height, width = parse_size(args.size, "HEIGHTxWIDTH", least=(64, 64))
    if not args.seconds >= 1:
        raise ScopeError("--seconds must be at least 1; give more.")
    found = [measure(content, height, width, args.seconds) for content in CONTENTS]
    for one in found:
        print(
            f"{one.content:8} {height}x{width}, H.264 at crf 23: {one.bits / 1e6:.2f} Mbit/s at {FPS} frames a second, "
            f"the first picture {one.key_bytes / 1e3:.0f} kB, {100 * one.core:.1f} % of a core"
        )
    if args.json:
        print(f"written to {write_result('film', {one.content: asdict(one) for one in found}, args.json)}")
    return 0


def measure(content: str, height: int, width: int, seconds: float) -> Figures:
    from scope_play.serve.film import Film
    from scope_play.wire.header import Picture

    chunks = _camera(height, width) if content == "camera" else _arena(height, width)
    film = Film(WorldSpec("film", height, width))
    sizes: list[int] = []

    def out(picture: Picture) -> None:
        sizes.append(len(picture.pack()))

    film.use("h264")
    spent = 0.0
    for number in range(max(1, round(seconds * FPS / CHUNK))):
        frames = next(chunks)
        began = film.run(time.thread_time)
        film.run(partial(film.chunk, frames, {"chunk": number + 1}, out))
        spent += film.run(time.thread_time).result() - began.result()
    film.close()
    later = sizes[1:]
    return Figures(content, height, width, 8 * FPS * sum(later) / len(later), sizes[0], spent * FPS / len(sizes))


def _camera(height: int, width: int) -> Iterator[np.ndarray]:
    """Chunks uint8 (4, height, width, 3)."""
    from PIL import Image

    twice = np.tile(_photograph(height, 2 * width, seed=0), (1, 2, 1))
    panorama = Image.fromarray(twice)
    weapon = _photograph(height // 3, width // 3, seed=1)
    frame = 0
    while True:
        frames = np.empty((CHUNK, height, width, 3), np.uint8)
        for part in range(CHUNK):
            near = 1.15 + 0.15 * np.sin(frame / 15)
            left, top = frame * TURN * width % (2 * width), height * (1 - 1 / near) / 2
            move = (1 / near, 0, left, 0, 1 / near, top)
            seen = panorama.transform((width, height), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR)
            frames[part] = np.asarray(seen)
            frames[part, -weapon.shape[0] :, -weapon.shape[1] :] = weapon
            frame += 1
        yield frames


def _photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Detail whose amplitude is one over its frequency, with a little colour, uint8 (height, width, 3); its left and
    right edges meet."""
    chance = np.random.default_rng(seed)
    noise = chance.standard_normal((height, width, 1)) + 0.2 * chance.standard_normal((height, width, 3))
    across, down = np.fft.fftfreq(width), np.fft.fftfreq(height)[:, None]
    falling = 1.0 / np.maximum(np.hypot(across, down), 1.0 / height)
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * falling[..., None], axes=(0, 1)).real
    return np.clip(127 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def _arena(height: int, width: int) -> Iterator[np.ndarray]:
    """The simulator, walking and turning without rest: chunks uint8 (4, height, width, 3)."""
    from scope_play.world import open_world

    session = open_world(LoadRequest("arena", size=(height, width))).start(seed=1)
    row = np.zeros((1, ROW_WIDTH), np.float32)
    row[:, 7], row[:, 8] = -0.6, 0.5
    while True:
        yield np.concatenate([session.step(row).frames for _ in range(CHUNK)])
