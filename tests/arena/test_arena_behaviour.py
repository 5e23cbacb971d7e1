"""The mixture of behaviours keeps what its docstring says."""

from __future__ import annotations

import numpy as np
import pytest

from scope_play.actions import BUTTONS
from scope_play.arena.behaviour import DRILL_SHARES, SHARES, sample_rows, sample_states
from scope_play.arena.map import BOX, ArenaMap, Solid
from scope_play.errors import ScopeError


def test_shares_sum_to_one() -> None:
    assert sum(SHARES) == pytest.approx(1.0)
    assert sum(DRILL_SHARES) == pytest.approx(1.0)


def test_rows_are_valid_smooth_and_varied() -> None:
    rows = sample_rows(128, 150, 1)
    buttons, sticks = rows[..., :6], rows[..., 6:]
    assert rows.dtype == np.float32
    assert set(np.unique(buttons)) == {0.0, 1.0}
    assert abs(sticks).max() <= 1.0
    assert abs(np.diff(sticks, axis=1)).max() < 0.75
    pressed = dict(zip(BUTTONS, buttons.mean((0, 1)), strict=True))
    assert all(0.015 < share < 0.35 for share in pressed.values()), pressed
    still = (abs(sticks).max(-1) < 0.02).mean()
    assert 0.15 < still < 0.4
    assert (abs(sticks[..., 2]) > 0.1).mean() > 0.35


def test_fights_hit_targets() -> None:
    states, _ = sample_states(128, 200, 3)
    assert states["hits"][-1].mean() > 0.3


def test_clips_of_a_session_do_not_depend_on_their_length() -> None:
    assert np.array_equal(sample_rows(2, 30, 8), sample_rows(2, 70, 8)[:, :30])


def test_a_map_with_a_target_outside_is_refused() -> None:
    with pytest.raises(ScopeError, match="outside the court"):
        ArenaMap(size=4.0, wall_height=1.0, solids=(), targets=((5.0, 1.0),))
    with pytest.raises(ScopeError, match="empty"):
        ArenaMap(4.0, 1.0, (Solid(BOX, 1.0, 1.0, (0.2, 0.2), 0.0, (1.0, 0.0, 0.0)),), ())
