"""Whole clips made in one piece, beside the same weights streamed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.evaluate.compare import open_compared, side_by_side
from scope_play.evaluate.offline import OfflineWorld
from scope_play.evaluate.rows import Row
from scope_play.loading.nano import native_model
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.loaded_model import LoadedModel
from scope_play.train.tune.proof import write_blank
from scope_play.world import World
from tests.helpers.small_world import SIZE, small_config, small_world


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """Bidirectional, with weights that say something."""
    config = small_config()
    world = replace(config.world, causal=False, from_previous=False, noise_scale=1.0)
    config = replace(config, world=world, sampling=StreamConfig(steps=3, shift=5.0, window=4, mode="window"))
    torch.manual_seed(0)
    network, codec = DiT(config.world), NanoCodec(config.codec)
    for parameter in (*network.parameters(), *codec.parameters()):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return native_model(network, codec, config, "both ways")


def rows(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    buttons, sticks = draw.integers(0, 2, (2, count, 6)), draw.uniform(-1, 1, (2, count, 4))
    return np.concatenate([buttons, sticks], -1).astype(np.float32)


IMAGES = [np.full((*SIZE, 3), shade, np.uint8) for shade in (60, 200)]


def test_the_end_of_a_clip_reaches_back_to_its_beginning_and_games_stay_apart(model: LoadedModel) -> None:
    world = OfflineWorld(model, latents=4, steps=3)
    assert world.spec.frames_per_chunk == 12
    given = rows(12)

    def made(actions: np.ndarray, seeds: tuple[int, int] = (5, 6)) -> np.ndarray:
        with world.start_many(IMAGES, seeds) as game:
            return game.step(actions).frames

    frames = made(given)
    assert frames.shape == (2, 12, *SIZE, 3)
    ends_otherwise = given.copy()
    ends_otherwise[0, 8:] = rows(4, 9)[0]
    changed = made(ends_otherwise)
    assert (changed[0, :4] != frames[0, :4]).any()  # no stream could know
    np.testing.assert_array_equal(changed[1], frames[1])
    assert (made(given, (5, 7))[1] != frames[1]).any()
    with world.start(IMAGES[1], seed=6) as game:
        alone = game.step(given[1:]).frames
        assert np.abs(alone[0].astype(int) - frames[1]).max() <= 1
        with pytest.raises(ScopeError, match="has no more frames"):
            game.step(given[1:])


def test_a_clip_of_one_latent_is_what_a_window_streams_first(model: LoadedModel) -> None:
    """There both denoise the same latents beside the same image."""
    given = rows(4)
    with OfflineWorld(model, latents=2, steps=3).start_many(IMAGES, (5, 6)) as game:
        offline = game.step(given).frames
    with World(model).start_many(IMAGES, (5, 6)) as session:
        streamed = session.step(given).frames
    assert np.abs(offline.astype(int) - streamed).max() <= 1
    assert streamed.std() > 1


def test_a_window_streams_only_what_the_codec_lets_stand(model: LoadedModel) -> None:
    settled = []
    project = model.codec.project

    def watched(latents: torch.Tensor) -> torch.Tensor:
        settled.append(project(latents).clamp(-0.1, 0.1))
        return settled[-1]

    model.codec.project = watched  # type: ignore[method-assign]
    try:
        with World(model).start_many(IMAGES, (5, 6)) as session:
            begun = len(settled)
            session.step(rows(4))
            session.step(rows(4, 1))
            assert len(settled) - begun == 2
            remembered = session._stream.past.chunks[-1].latents
    finally:
        del model.codec.project
    assert torch.equal(remembered, settled[-1])


def test_clips_take_thirty_steps_and_causal_weights_have_none(model: LoadedModel) -> None:
    assert OfflineWorld(model).spec.stream.steps == 30
    with pytest.raises(ScopeError, match="is causal, so no clip of it is evaluated offline; leave out --offline"):
        OfflineWorld(small_world().model)


def test_eval_offline_plays_the_trials_it_is_asked_for_in_clips_of_four_seconds(tmp_path: Path) -> None:
    write_blank("nano-96x160", tmp_path / "blank", dim=32, layers=1)
    words = ["--model", tmp_path / "blank", "--offline", "--steps", 1, "--trials", "mixed", "--seeds", 900_000_001]
    assert main(["eval", *map(str, words), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert found["config"]["mixed_seconds"] == 4.0
    assert found["world"]["chunk"] == 20
    assert {row["group"] for row in found["rows"]} >= {"button F1", "PSNR to truth, dB"}
    assert not [row for row in found["rows"] if row["group"] in ("standing still", "movement", "in-scope")]
    assert {row["name"] for row in found["rows"] if row["group"].startswith("PSNR")} == {"0.4 s", "1 s", "4 s"}


def test_worlds_stand_side_by_side_without_what_the_probe_cannot_read() -> None:
    rows = [
        Row("button F1", "south", 0.5, truth=1.0, interval=(0.25, 0.75)),
        Row("stick R2", "left_y", 0.9, truth=-0.1),
        Row("in-scope", "fire: strength", 1.0),
        Row("PSNR to truth, dB", "1 s", 20.0),
    ]
    table = side_by_side({"a": rows, "b": [replace(row, world=None) for row in rows]}).splitlines()
    assert table[0] == "|  | button F1 south | PSNR to truth, dB 1 s |"
    assert table[2:] == ["| true frames | 1.00 |  |", "| a | 0.50 (0.25 to 0.75) | 20.00 |", "| b |  |  |"]


def test_a_setting_that_is_none_costs_a_sentence() -> None:
    with pytest.raises(ScopeError, match=r"'speed=3' is no setting; give mode, steps, .* such as steps=4"):
        open_compared("nano-96x160:speed=3")
