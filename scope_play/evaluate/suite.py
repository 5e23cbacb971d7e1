"""The measurements: each takes a world's frames and the truth's, and gives figures with the same figure for the truth.

A `Row` is one line of the table. `world` is what was measured on the world's frames, `truth` the same measurement on
true frames (what the probe can see at best), `copy` what repeating the first frame would score, `target` the aim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scope_play.actions import AXES, BUTTONS, FPS
from scope_play.arena.config import ArenaConfig
from scope_play.evaluate.labels import label
from scope_play.evaluate.probe import Probe, Reading
from scope_play.evaluate.scores import (
    f1_scores,
    feature_distance,
    gain,
    psnr,
    r2_scores,
    statistics_distance,
    unwrapped_turn,
)
from scope_play.evaluate.trials import Trial

HORIZONS = (0.4, 1.0, 4.0, 9.0)
SMALL = (96, 160)
"""To this size larger pictures are also brought, so that they can be compared with those of a world that draws it."""
DRIFT_AT = (4.0, 15.0, 30.0, 60.0)
ENDS = 3  # frames averaged at both ends of a path: one reading of the place is noisy


@dataclass(frozen=True)
class Row:
    group: str
    name: str
    world: float | None
    truth: float | None = None
    copy: float | None = None
    target: str = ""
    met: bool | None = None


def controls(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig, seconds: float = 4.0) -> list[Row]:
    """F1 of what each button does and R2 of each stick axis in the first `seconds`, by the probe."""
    frames = min(round(seconds * FPS), trial.rows.shape[1])
    labels = label(trial.states[: frames + 1], trial.rows.swapaxes(0, 1)[:frames], config)
    # Two frames more than are read, so that the last one has its neighbours; frame 0 is given, not made.
    seen, ideal = (_from_one(probe.read(part[:, : frames + 2]), frames) for part in (made, trial.frames))
    activity, sticks, counted = labels.activity[:, 1:], labels.sticks[:, 1:], labels.visible[:, 1:]
    rows: list[Row] = []
    for name, score, best in zip(
        BUTTONS, f1_scores(seen.activity > 0.5, activity), f1_scores(ideal.activity > 0.5, activity), strict=True
    ):
        rows.append(_at_least("button F1", name, score, best, 0.9))
    for name, score, best in zip(
        AXES, r2_scores(seen.sticks, sticks, counted), r2_scores(ideal.sticks, sticks, counted), strict=True
    ):
        rows.append(_at_least("stick R2", name, score, best, 0.9))
    for axis, name in ((2, "yaw, by motion"), (3, "pitch, by motion")):
        keep = counted[..., axis]
        true = sticks[..., axis][keep]
        found = gain(seen.sticks[..., axis][keep], true)
        rows.append(_near_truth("gain", name, found, gain(ideal.sticks[..., axis][keep], true)))
    return rows


def _from_one(reading: Reading, frames: int) -> Reading:
    return Reading(reading.activity[:, 1:frames], reading.sticks[:, 1:frames], reading.pose[:, 1:frames])


def horizons(probe: Probe, trial: Trial, made: np.ndarray) -> list[Row]:
    """PSNR and feature distance to the truth after some time, beside repeating the first frame."""
    rows = []
    for seconds in HORIZONS:
        end = round(seconds * FPS)
        if end >= made.shape[1]:
            continue
        part = slice(end - 3, end + 1)
        true, first = trial.frames[:, part], np.repeat(trial.frames[:, :1], 4, 1)
        shown = {"PSNR to truth, dB": [true, made[:, part], first]}
        if true.shape[2:4] > SMALL:
            small = [brought_to(frames, SMALL) for frames in (true, made[:, part], first)]
            shown[f"PSNR to truth at {SMALL[0]}x{SMALL[1]}, dB"] = small
        for group, (right, *others) in shown.items():
            values = [float(psnr(frames, right).mean()) for frames in others]
            rows.append(Row(group, f"{seconds:g} s", values[0], None, values[1]))
        flat = [frames.reshape(-1, *frames.shape[2:]) for frames in (true, made[:, part], first)]
        features = [probe.picture_features(frames) for frames in flat]
        values = [float(feature_distance(features[0], other).mean()) for other in features[1:]]
        rows.append(Row("feature distance to truth", f"{seconds:g} s", values[0], None, values[1]))
    return rows


def brought_to(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (..., H, W, 3) -> uint8 (..., h, w, 3): each pixel the mean of those it covers."""
    pixels = torch.from_numpy(frames.reshape(-1, *frames.shape[-3:])).permute(0, 3, 1, 2)
    small = F.interpolate(pixels.float(), size, mode="area").round().to(torch.uint8)
    return small.permute(0, 2, 3, 1).numpy().reshape(*frames.shape[:-3], *size, 3)


def standing_still(made: np.ndarray) -> list[Row]:
    """How well a world keeps its first frame when nothing is touched."""
    kept = psnr(made[:, 1:], made[:, :1])
    seconds = (made.shape[1] - 1) / FPS
    return [
        _at_least("standing still", f"PSNR to start after {seconds:g} s, dB", float(kept[:, -4:].mean()), 60.0, 25.0),
        Row("standing still", "lowest PSNR on the way, dB", float(kept.min(1).mean()), 60.0),
    ]


def turning(probe: Probe, trials: list[Trial], made: list[np.ndarray]) -> list[Row]:
    """Heading by the probe's sense of place, after turns to both sides: gain, sign, and the error at the end."""
    turned, ideal, true = [], [], []
    for trial, frames in zip(trials, made, strict=True):
        turned.append(_end_turn(probe, frames))
        ideal.append(_end_turn(probe, trial.frames))
        yaw = np.unwrap(trial.states["yaw"], axis=0)
        true.append(yaw[-ENDS:].mean(0) - yaw[0])
    all_turned, all_ideal, all_true = np.concatenate(turned), np.concatenate(ideal), np.concatenate(true)
    square = float(np.square(all_true).sum())
    degrees = float(np.degrees(np.abs(all_true).mean()))
    errors = [float(np.degrees(np.abs(found - all_true)).mean()) for found in (all_turned, all_ideal)]
    right_way = [float((found * all_true > 0).mean()) for found in (all_turned, all_ideal)]
    return [
        _near_truth("gain", "yaw, by heading", float((all_turned * all_true).sum()) / square,
                  float((all_ideal * all_true).sum()) / square),
        Row("gain", "yaw, share of turns to the right side", right_way[0], right_way[1]),
        Row("gain", f"heading error after a turn of {degrees:.0f}, degrees", errors[0], errors[1], degrees),
    ]  # fmt: skip


def _end_turn(probe: Probe, frames: np.ndarray) -> np.ndarray:
    return unwrapped_turn(probe.read(frames).pose)[:, -ENDS:].mean(1)


def pitching(probe: Probe, trials: list[Trial], made: list[np.ndarray], config: ArenaConfig) -> list[Row]:
    """Pitch by the probe after looking up and down."""
    found: list[np.ndarray] = []
    ideal: list[np.ndarray] = []
    true: list[np.ndarray] = []
    for trial, frames in zip(trials, made, strict=True):
        pitch = trial.states["pitch"] / config.rules.pitch_limit
        true.append(pitch[-ENDS:].mean(0) - pitch[0])
        for part, into in ((frames, found), (trial.frames, ideal)):
            read = probe.read(part).pose[..., 2]
            into.append(read[:, -ENDS:].mean(1) - read[:, 0])
    square = float(np.square(np.concatenate(true)).sum())
    gains = [float((np.concatenate(part) * np.concatenate(true)).sum()) / square for part in (found, ideal)]
    return [_near_truth("gain", "pitch, by horizon", gains[0], gains[1])]


def walking(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig) -> list[Row]:
    """Distance covered along the true path, as a share of it, by the probe's sense of place."""
    half = config.map.size / 2
    true = np.stack([trial.states["x"][-1] - trial.states["x"][0], trial.states["y"][-1] - trial.states["y"][0]], -1)
    length = np.linalg.norm(true, axis=-1)
    shares = []
    for frames in (made, trial.frames):
        place = probe.read(frames).pose[..., 4:] * half
        moved = place[:, -ENDS:].mean(1) - place[:, :ENDS].mean(1)
        shares.append(float(((moved * true).sum(-1) / length**2).mean()))
    return [_near_truth("movement", "walking speed, share of true", shares[0], shares[1])]


def jumping(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig) -> list[Row]:
    """Greatest height by the probe, as a share of a jump's."""
    true = trial.states["z"].max(0) / config.rules.jump_height
    shares = []
    for frames in (made, trial.frames):
        height = probe.read(frames).pose[..., 3]
        smooth = (height[:, :-2] + height[:, 1:-1] + height[:, 2:]) / 3
        shares.append(float(((smooth.max(1) - height[:, :2].mean(1)) / true).mean()))
    return [_near_truth("movement", "jump height, share of true", shares[0], shares[1])]


def selectivity(button: str, pair: tuple[Trial, Trial], made: tuple[np.ndarray, np.ndarray]) -> list[Row]:
    """Where the picture changes when only a weapon button differs: inside the weapon's region, or elsewhere.

    The region is where either true picture has weapon or HUD. The mean change per pixel inside is divided by the sum
    of inside and outside; `strength` is the change inside as a share of the true one.
    """
    region = pair[0].masks | pair[1].masks
    inside, outside = [], []
    for a, b in (made, (pair[0].frames, pair[1].frames)):
        change = np.abs(a.astype(np.int16) - b.astype(np.int16)).mean(-1)
        inside.append(float(change[region].mean()))
        outside.append(float(change[~region].mean()))
    kept = [i / (i + o) if i + o > 1e-6 else None for i, o in zip(inside, outside, strict=True)]
    return [
        Row("in-scope", f"{button}: selectivity", kept[0], kept[1]),
        Row("in-scope", f"{button}: strength", inside[0] / inside[1], 1.0),
    ]


def drift(probe: Probe, trial: Trial, made: np.ndarray) -> list[Row]:
    """How far picture statistics have wandered from those of true play, at several times; two seconds each time.

    Statistics are mean and spread of the probe's features; the reference is the whole of the true play.
    """
    reference = _statistics(probe, trial.frames[:, ::8])
    rows: list[Row] = []
    for seconds in DRIFT_AT:
        end = round(seconds * FPS)
        if end >= made.shape[1]:
            continue
        part = slice(max(1, end - 2 * FPS), end + 1, 4)
        values = [
            statistics_distance(_statistics(probe, frames[:, part]), reference) for frames in (made, trial.frames)
        ]
        still = statistics_distance(_statistics(probe, np.repeat(trial.frames[:, :1], 2, 1)), reference)
        rows.append(Row("drift of features", f"{seconds:g} s", values[0], values[1], still))
    if len(rows) == len(DRIFT_AT):
        first, last = rows[0], rows[-1]
        ratio = (last.world or 0.0) / max(first.world or 0.0, 1e-9)
        best = (last.truth or 0.0) / max(first.truth or 0.0, 1e-9)
        rows.append(Row("drift of features", "60 s over 4 s", ratio, best, None, "<= 1.5", ratio <= 1.5))
    return rows


def _statistics(probe: Probe, frames: np.ndarray) -> np.ndarray:
    """Feature vectors (N, D) of frames (B, T, H, W, 3): every stage's channels, averaged over the picture."""
    features = probe.picture_features(frames.reshape(-1, *frames.shape[2:]))
    return np.concatenate([stage.mean((2, 3)).numpy() for stage in features], 1)


def _at_least(group: str, name: str, world: float | None, truth: float | None, floor: float) -> Row:
    """A figure that should reach `floor`; where the probe falls short of it on true frames, nothing is judged."""
    if truth is not None and truth < floor:
        return Row(group, name, world, truth, None, f">= {floor:g}, beyond the probe")
    return Row(group, name, world, truth, None, f">= {floor:g}", None if world is None else world >= floor)


def _near_truth(group: str, name: str, world: float | None, truth: float | None) -> Row:
    """A figure that should be within 15 % of the same measurement on true frames, whose own bias it shares."""
    met = None if world is None or not truth else abs(world / truth - 1.0) <= 0.15
    return Row(group, name, world, truth, None, "true +- 15 %", met)
