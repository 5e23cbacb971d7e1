"""The figures, on arrays whose scores are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from scope_play.evaluate.drift import drift
from scope_play.evaluate.rows import at_least, interval, mean_of, measure, slope_of
from scope_play.evaluate.scores import f1_score, feature_distance, gain, psnr, r2_score, unwrapped_turn
from scope_play.evaluate.suite import horizons


def test_f1_counts_hits_and_is_none_of_what_never_happens() -> None:
    true = np.array([[True, False], [True, True], [False, True], [False, False]])
    assert f1_score(true, true) == 1.0
    assert f1_score(~true, true) == 0.0
    assert f1_score(np.ones(4, bool), true[:, 0]) == pytest.approx(2 / 3)
    assert f1_score(np.zeros(4, bool), np.zeros(4, bool)) is None


def test_r2_is_one_for_the_truth_zero_for_its_mean_and_ignores_what_does_not_count() -> None:
    true = np.random.default_rng(0).normal(size=50)
    counted = np.ones(50, bool)
    assert r2_score(true, true, counted) == 1.0
    assert r2_score(np.full(50, true.mean()), true, counted) == pytest.approx(0.0)
    wrong = true.copy()
    wrong[:10] += 100.0
    counted[:10] = False
    assert r2_score(wrong, true, counted) == 1.0
    assert r2_score(true, np.zeros_like(true), counted) is None


def test_gain_has_size_and_sign() -> None:
    true = np.linspace(-1, 1, 21)
    counted = np.ones(21, bool)
    assert gain(0.5 * true + 3.0, true, counted) == pytest.approx(0.5)
    assert gain(-true, true, counted) == pytest.approx(-1.0)
    assert gain(true, np.ones(21), counted) is None
    assert gain(true, true, ~counted) is None


def test_an_interval_covers_the_mean_of_all_games_as_often_as_it_says() -> None:
    """Of 300 evaluations of 32 games each, drawn from a law whose mean is 0, some 93 % hold it."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        found = interval(mean_of(rng.normal(size=(32, 4))), 32)
        assert found is not None
        held += found[0] <= 0.0 <= found[1]
    assert 268 <= held <= 294


def test_an_interval_narrows_with_games_is_the_same_again_and_none_where_nothing_can_be_told() -> None:
    values = np.random.default_rng(4).normal(size=400)
    few, many = interval(mean_of(values), 10), interval(mean_of(values), 400)
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < 0.4 * (few[1] - few[0])
    assert many == interval(mean_of(values), 400)
    assert interval(mean_of(values), 1) is None
    assert interval(lambda games: None, 8) is None


def test_a_row_is_judged_by_the_figure_of_all_games_and_not_beyond_the_probe() -> None:
    true = np.array([1.0, 2.0, -3.0])
    row = measure("gain", "yaw", 3, slope_of(0.95 * true, true), slope_of(true, true))
    assert (row.world, row.truth) == pytest.approx((0.95, 1.0))
    assert at_least(row, 0.9).met is True
    assert at_least(row, 0.96).met is False
    assert at_least(row, 1.1).met is None


def test_psnr_of_a_known_error() -> None:
    a = np.full((2, 4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 10
    assert psnr(a, b) == pytest.approx([60.0, 20 * np.log10(255 / 10)], abs=1e-3)


def test_feature_distance_is_zero_for_equals_and_blind_to_scale() -> None:
    a = [torch.rand(3, 8, 4, 4) + 0.1]
    assert feature_distance(a, [2 * a[0]]) == pytest.approx(np.zeros(3), abs=1e-6)
    assert (feature_distance(a, [torch.rand(3, 8, 4, 4)]) > 0.05).all()


class Blocks:
    """A probe whose features are a picture's colours in four parts."""

    def picture_features(self, frames: np.ndarray) -> list[Tensor]:
        means = frames.reshape(len(frames), 2, frames.shape[1] // 2, 2, -1, 3).mean((2, 4)).reshape(len(frames), -1)
        return [torch.from_numpy(means)[..., None, None]]


def test_drift_sees_a_world_that_stops_fades_slows_or_dissolves_and_lets_other_true_games_be() -> None:
    rng = np.random.default_rng(5)
    walks = rng.normal(size=(12, 640, 4, 4, 3))
    true = (128 + 30 * np.sin(walks.cumsum(1) / 4)).astype(np.uint8)
    trial = SimpleNamespace(frames=true)
    stopped, faded, dissolved = true.copy(), true.copy(), true.copy()
    stopped[:, 400:] = true[:, 400:401]
    faded[:, 400:] = true[:, 400:] // 2
    dissolved[:, 400:] = rng.integers(0, 255, (12, 240, 4, 4, 3))
    frozen, slow = np.repeat(true[:, :1], 640, 1), true[:, np.arange(640) // 4]

    def met(made: np.ndarray) -> list[bool | None]:
        return [row.met for row in drift(Blocks(), trial, made)]  # type: ignore[arg-type]

    assert met(true) == met(np.roll(true, 1, 0)) == [True, True, True]
    assert met(frozen) == met(slow) == [False, False, False]
    assert met(stopped) == met(faded) == met(dissolved) == [True, True, False]


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
