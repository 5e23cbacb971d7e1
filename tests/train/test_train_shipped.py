"""What the shipped world has learned, told in the simulator's features: no picture and no probe between."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.records import read_record
from scope_play.train.build import Options, load_nano_codec
from scope_play.train.data.games import Games
from scope_play.train.data.states import FEATURES
from scope_play.train.rollout import rollout
from scope_play.weights.catalog import nano_folder
from scope_play.weights.native import open_native_folder

LATENTS = 21
FLASH, AIM, HEIGHT, MELEE, RELOADING, SWITCHING, DOWN = 13, 6, 2, 19, 17, 21, (29, 33, 37, 41, 45)


@pytest.fixture(scope="module")
def codec() -> NanoCodec:
    return load_nano_codec(Options(codec=nano_folder()))


@pytest.fixture(scope="module")
def world() -> DiT:
    config = read_record(DiTConfig, json.loads((nano_folder() / "config.json").read_text())["world"], "config.json")
    return open_native_folder(nano_folder()).world(lambda: DiT(config), torch.float32).eval()


def play(world: DiT, codec: NanoCodec, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Features of the frames after the first, (B, T, FEATURES)."""
    draw = torch.Generator().manual_seed(0)
    made = rollout(
        world,
        latents[:, :, 0],
        rows[..., :6],
        rows[..., 6:],
        1 + rows.shape[1] // 4,
        window=12,
        sigmas=(1.0,),
        draw=draw,
        project=codec.project,
    ).latents
    return by_frame(codec, made)


def by_frame(codec: NanoCodec, latents: torch.Tensor) -> torch.Tensor:
    features = codec.to_features(latents[..., 0, 0].transpose(1, 2))
    return features.unflatten(-1, (4, FEATURES))[:, 1:].flatten(1, 2)


def found(true: torch.Tensor, ours: torch.Tensor) -> tuple[float, float]:
    """Precision and recall of beginnings, bool (B, T), to within four frames. What pauses for less goes on."""

    def near(events: torch.Tensor) -> torch.Tensor:
        return F.max_pool1d(events.float()[:, None], 9, 1, 4)[:, 0] > 0

    going_on = [near(some) for some in (true, ours)]
    began = [some[:, 1:] & ~some[:, :-1] for some in going_on]
    assert began[0].sum() > 5
    precision = (began[1] & near(began[0])).sum() / began[1].sum().clamp_min(1)
    return float(precision), float((began[0] & near(began[1])).sum() / began[0].sum())


def test_every_button_does_what_it_does_and_shots_fell_targets(world: DiT, codec: NanoCodec) -> None:
    latents, rows = Games(codec, seed=987).clips(160, LATENTS, "shipped", 0)
    true, ours = by_frame(codec, latents), play(world, codec, latents, rows)
    for column, level in ((FLASH, 0.25), (AIM, 0.5), (HEIGHT, 0.1), (MELEE, 0.5), (RELOADING, 0.5), (SWITCHING, 0.5)):
        precision, recall = found(true[..., column] > level, ours[..., column] > level)
        assert min(precision, recall) > 0.85, column
    precision, recall = found(*(torch.cat([some[..., column] > 0.5 for column in DOWN]) for some in (true, ours)))
    assert precision > 0.6
    assert recall > 0.7


@pytest.mark.parametrize(("rounds", "begins"), [(10, True), (28, True), (30, False)])
def test_a_magazine_is_changed_unless_it_is_full(world: DiT, codec: NanoCodec, rounds: int, begins: bool) -> None:
    latents, _ = Games(codec, seed=987).clips(32, 2, "reload", 0)
    features = by_frame(codec, latents)[:, :1].clone()
    features[..., [AIM, 7, FLASH, 14, 15, 16, RELOADING, 18, MELEE, 20, SWITCHING, 23]] = 0
    features[..., 24] = rounds / 30
    start = codec.from_features(features.expand(-1, 4, -1).flatten(1))[:, :, None, None, None]
    rows = torch.zeros(32, 16, 10)
    rows[:, 4:8, 4] = 1
    reloading = (play(world, codec, start, rows)[..., RELOADING] > 0.5).any(1).float().mean()
    assert (reloading > 0.9) if begins else (reloading < 0.1)
