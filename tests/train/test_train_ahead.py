"""Games and moments worked out by other processes are those that one process makes by itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import CameraConfig
from scope_play.train.data.ahead import Ahead
from scope_play.train.data.games import Games, played
from scope_play.train.data.pool import Pool
from scope_play.train.data.sources import ArenaSource
from scope_play.train.data.states import FEATURES
from tests.helpers.small_codec import small_codec


def share(whole: float, parts: int) -> float:
    return whole / parts


def test_what_was_prepared_is_what_is_asked_for_and_an_error_comes_where_the_answer_would() -> None:
    ahead = Ahead(partial(share, 12.0), workers=1)
    for parts in (1, 2, 3, 3):
        ahead.prepare(parts)
    assert [ahead(parts) for parts in (3, 4, 1, 2)] == [4, 3, 12, 6]
    assert ahead(3) == 4  # an answer is kept until it is asked for once
    ahead.prepare(0)
    with pytest.raises(ZeroDivisionError):
        ahead(0)
    assert ahead(6) == 2


def test_without_workers_nothing_is_prepared() -> None:
    ahead = Ahead(partial(share, 12.0))
    ahead.prepare(0)
    assert ahead.depth == 0
    assert ahead(3) == 4


def test_games_and_moments_do_not_depend_on_who_makes_them() -> None:
    codec = NanoCodec(small_codec(frame=(32, 32), latent_channels=4 * FEATURES, camera=CameraConfig(sight=48)))
    wanted = [(3, 4, "world", step) for step in range(4)]
    games = Games(codec, seed=2, workers=1)
    games.prepare(lambda step: wanted[step % 4], 0)
    for asked in wanted:
        latents, rows = games.clips(*asked)
        features, alone = played(2, *asked)
        assert np.array_equal(rows.numpy(), alone)
        torch.testing.assert_close(
            codec.to_features(latents[..., 0, 0].transpose(1, 2)), torch.from_numpy(features), atol=1e-5, rtol=1e-5
        )
    pools = [Pool(ArenaSource(1, 32, 32), fresh=2, size=6, workers=workers) for workers in (0, 1)]
    for step in (0, 1, 5):
        ours, theirs = (pool.at(step) for pool in pools)
        for name in ("frames", "court", "features"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
