"""A world elsewhere gives the same bytes as one here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.session.interfaces import SessionLike
from scope_play.wire.world import RemoteWorld
from tests.helpers.fake_world import FakeWorld
from tests.helpers.serving import serving


def rows(seed: int, n: int = 4) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return np.concatenate([chance.integers(0, 2, (n, 6)), chance.uniform(-1, 1, (n, 4))], axis=1).astype(np.float32)


def frames(session: SessionLike, seeds: range) -> np.ndarray:
    return np.concatenate([session.step(rows(seed)).frames for seed in seeds])


def test_the_same_frames_snapshots_and_prompts(tmp_path: Path) -> None:
    image = np.full((48, 80, 3), 90, np.uint8)
    with serving(tmp_path) as served, RemoteWorld(served.url) as world:
        here = FakeWorld()
        assert world.spec == here.spec
        with world.start(image, "red", 5) as there, here.start(image, "red", 5) as local:
            np.testing.assert_array_equal(there.first_frame, local.first_frame)
            np.testing.assert_array_equal(frames(there, range(3)), frames(local, range(3)))
            kept, mine = there.snapshot(), local.snapshot()
            there.set_prompt("blue room")
            local.set_prompt("blue room")
            np.testing.assert_array_equal(frames(there, range(3, 6)), frames(local, range(3, 6)))
            there.restore(kept)
            local.restore(mine)
            np.testing.assert_array_equal(frames(there, range(8, 10)), frames(local, range(8, 10)))
            assert there.index == local.index == 5
        assert world.identity == here.identity


def test_a_bad_row_costs_nothing_and_a_closed_session_says_so(tmp_path: Path) -> None:
    with serving(tmp_path) as served, RemoteWorld(served.url) as world:
        session = world.start(seed=1)
        with pytest.raises(ScopeError, match="right_trigger"):
            session.step(np.full((4, 10), 0.5, np.float32))
        expected = FakeWorld().start(seed=1).step(rows(0)).frames
        np.testing.assert_array_equal(session.step(rows(0)).frames, expected)
        session.close()
        with pytest.raises(ScopeError, match="closed"):
            session.step(rows(0))
        with world.start(seed=1) as again:
            np.testing.assert_array_equal(again.step(rows(0)).frames, expected)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "nowhere", "ftp://x/#t"])
def test_an_address_without_a_server_or_token(url: str) -> None:
    with pytest.raises(ScopeError, match="address"):
        RemoteWorld(url)


def test_a_wrong_token_is_told(tmp_path: Path) -> None:
    with serving(tmp_path) as served, pytest.raises(ScopeError, match="token"):
        RemoteWorld(f"{served.base}/#not-the-token-not-the-token")
