"""What the recipe's proof begins from, and its first stage as typed: games in shards, a network that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play import cli
from scope_play.errors import ScopeError
from scope_play.train.data.games import played
from scope_play.train.shards.source import ShardSource
from scope_play.train.tune.proof import write_blank, write_games
from scope_play.train.tune.start import open_start


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("proof") / "games"
    write_games("nano-96x160", out, 8, 4, report=lambda text: None)
    return out


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("proof") / "blank"
    write_blank("nano-96x160", out, dim=32, layers=1)
    return out


def test_games_are_what_the_simulator_played_with_the_rows_that_made_it(games: Path, blank: Path) -> None:
    source = ShardSource(games, latents=4)
    batch = source.batch(range(3), 4, 0)
    features, rows = played(0, 8, 4, "proof", 0)
    start = open_start(blank)
    found = batch.latents[..., 0, 0].transpose(1, 2)
    assert start.native is not None
    from scope_play.model.nano_codec.codec import NanoCodec

    codec = start.native.codec(lambda: NanoCodec(start.native_config().codec), torch.float32)
    known = codec.from_features(torch.from_numpy(features))
    for clip, buttons, sticks in zip(found, batch.buttons, batch.sticks, strict=True):
        which = int((known - clip).abs().amax((1, 2)).argmin())
        torch.testing.assert_close(clip, known[which], atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(torch.cat([buttons, sticks], 1).numpy(), rows[which])
    assert source.index.clips[0].latents == 4
    with pytest.raises(ScopeError, match="holds encoded clips; give a new folder"):
        write_games("nano-96x160", games, 1, 4)


def test_every_weight_of_a_native_world_learns_and_its_rate_falls_at_the_end(
    games: Path, blank: Path, tmp_path: Path
) -> None:
    words = ["--data", games, "--start", blank, "--out", tmp_path / "run", "--steps", 5, "--cool", "--seed", 3]
    words += ["--set", "lora.rank=0", "--set", "trainer.latents=4", "--set", "trainer.batch=2"]
    words += ["--set", "trainer.lr=1e-2", "--set", "trainer.warmup=1", "--set", "method.lowest=0.14"]
    assert cli.main(["train", "flow", *map(str, words)]) == 0
    before, after = (open_start(folder).network().state_dict() for folder in (blank, tmp_path / "run" / "weights"))
    same = [name for name, tensor in before.items() if torch.equal(tensor, after[name])]
    assert not [name for name in same if name.endswith("weight") and "head" in name]
    assert len(same) < len(before) / 3
    (newest,) = sorted((tmp_path / "run").glob("checkpoint-*"))[-1:]
    assert json.loads((newest / "values.json").read_text())["values"]["cooling"] == [3, 5]


def test_nano_with_the_smaller_picture_can_be_a_start() -> None:
    start = open_start("nano-96x160")
    assert start.native_config().size == (96, 160)
    assert start.network().config.out_channels == 212
