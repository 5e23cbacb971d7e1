"""The figures, on arrays whose scores are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from scope_play.evaluate.scores import (
    f1_scores,
    feature_distance,
    gain,
    psnr,
    r2_scores,
    statistics_distance,
    unwrapped_turn,
)
from scope_play.evaluate.suite import horizons


def test_f1_counts_each_column_and_leaves_out_what_never_happens() -> None:
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    predicted = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert f1_scores(predicted, true) == [1.0, 0.0, None]
    assert f1_scores(np.ones((4, 1)), true[:, :1])[0] == pytest.approx(2 / 3)


def test_r2_is_one_for_the_truth_zero_for_its_mean_and_ignores_what_does_not_count() -> None:
    true = np.random.default_rng(0).normal(size=(50, 2))
    counted = np.ones((50, 2), bool)
    assert r2_scores(true, true, counted) == [1.0, 1.0]
    assert r2_scores(np.broadcast_to(true.mean(0), true.shape), true, counted) == pytest.approx([0.0, 0.0])
    wrong = true.copy()
    wrong[:10] += 100.0
    counted[:10] = False
    assert r2_scores(wrong, true, counted) == [1.0, 1.0]
    assert r2_scores(true, np.zeros_like(true), counted) == [None, None]


def test_gain_has_size_and_sign() -> None:
    true = np.linspace(-1, 1, 21)
    assert gain(0.5 * true + 3.0, true) == pytest.approx(0.5)
    assert gain(-true, true) == pytest.approx(-1.0)
    assert gain(true, np.ones(21)) is None


def test_psnr_of_a_known_error() -> None:
    a = np.full((2, 4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 10
    assert psnr(a, b) == pytest.approx([60.0, 20 * np.log10(255 / 10)], abs=1e-3)


def test_feature_distance_is_zero_for_equals_and_blind_to_scale() -> None:
    a = [torch.rand(3, 8, 4, 4) + 0.1]
    assert feature_distance(a, [2 * a[0]]) == pytest.approx(np.zeros(3), abs=1e-6)
    assert (feature_distance(a, [torch.rand(3, 8, 4, 4)]) > 0.05).all()


def test_statistics_distance_sees_means_and_spreads() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(4000, 3))
    assert statistics_distance(a, rng.normal(size=(4000, 3))) < 0.02
    assert statistics_distance(a, a + 1.0) == pytest.approx(3.0)
    assert statistics_distance(a, 3.0 * a) == pytest.approx(12.0, rel=0.1)


def test_a_turn_past_half_a_circle_is_unwrapped() -> None:
    yaw = np.linspace(3.0, 9.0, 40)
    assert unwrapped_turn(np.stack([np.cos(yaw), np.sin(yaw)], -1)) == pytest.approx(yaw - 3.0)


def test_pictures_are_compared_at_both_sizes_where_they_are_large() -> None:
    """Errors of single pixels that go out in a mean of four are there at one size and not at the other."""

    class Same:
        def picture_features(self, frames: np.ndarray) -> list[Tensor]:
            return [torch.ones(len(frames), 1, 1, 1)]

    true = np.full((1, 13, 192, 320, 3), 100, np.uint8)
    made = true.copy()
    made[..., ::2, :, :], made[..., 1::2, :, :] = 90, 110
    trial = SimpleNamespace(frames=true)
    rows = {row.group: row.world for row in horizons(Same(), trial, made) if row.name == "0.4 s"}  # type: ignore[arg-type]
    assert rows["PSNR to truth, dB"] == pytest.approx(28.13, abs=0.01)
    assert rows["PSNR to truth at 96x160, dB"] == 60
    small = SimpleNamespace(frames=true[:, :, ::2, ::2])
    groups = {row.group for row in horizons(Same(), small, made[:, :, ::2, ::2])}  # type: ignore[arg-type]
    assert groups == {"PSNR to truth, dB", "feature distance to truth"}
