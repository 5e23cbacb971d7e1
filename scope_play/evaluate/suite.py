"""The measurements: each takes a world's frames and the truth's, and gives rows with the same figure for the truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from scope_play.actions import AXES, BUTTONS, FPS
from scope_play.arena.config import ArenaConfig
from scope_play.evaluate.labels import label
from scope_play.evaluate.probe import Probe, Reading
from scope_play.evaluate.rows import Figure, Row, at_least, mean_of, measure, near_truth, slope_of
from scope_play.evaluate.scores import f1_score, feature_distance, gain, psnr, r2_score, unwrapped_turn
from scope_play.evaluate.trials import Trial

HORIZONS = (0.4, 1.0, 4.0, 9.0)
SMALL = (96, 160)
"""To this size larger pictures are also brought, so that they can be compared with those of a world that draws it."""
ENDS = 3  # frames averaged at both ends of a path: one reading of the place is noisy


def controls(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig, seconds: float = 4.0) -> list[Row]:
    """F1 of what each button does and R2 of each stick axis in the first `seconds`, by the probe."""
    frames = min(round(seconds * FPS), trial.rows.shape[1])
    labels = label(trial.states[: frames + 1], trial.rows.swapaxes(0, 1)[:frames], config)
    # Two frames more than are read, so that the last one has its neighbours; frame 0 is given, not made.
    seen, ideal = (_from_one(probe.read(part[:, : frames + 2]), frames) for part in (made, trial.frames))
    activity, sticks, counted = labels.activity[:, 1:], labels.sticks[:, 1:], labels.visible[:, 1:]
    games = len(made)

    def of(score: Callable[..., float | None], part: np.ndarray, *others: np.ndarray) -> Figure:
        return lambda drawn: score(part[drawn], *(other[drawn] for other in others))

    rows: list[Row] = []
    for k, name in enumerate(BUTTONS):
        figures = [of(f1_score, reading.activity[..., k] > 0.5, activity[..., k]) for reading in (seen, ideal)]
        rows.append(at_least(measure("button F1", name, games, *figures), 0.9))
    for k, name in enumerate(AXES):
        figures = [of(r2_score, reading.sticks[..., k], sticks[..., k], counted[..., k]) for reading in (seen, ideal)]
        rows.append(at_least(measure("stick R2", name, games, *figures), 0.9))
    for k, name in ((2, "yaw, by motion"), (3, "pitch, by motion")):
        figures = [of(gain, reading.sticks[..., k], sticks[..., k], counted[..., k]) for reading in (seen, ideal)]
        rows.append(near_truth(measure("gain", name, games, *figures)))
    return rows


def _from_one(reading: Reading, frames: int) -> Reading:
    return Reading(reading.activity[:, 1:frames], reading.sticks[:, 1:frames], reading.pose[:, 1:frames])


def horizons(probe: Probe, trial: Trial, made: np.ndarray) -> list[Row]:
    """PSNR and feature distance to the truth after some time, beside repeating the first frame."""
    rows = []
    games = len(made)
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
            world, copy = (mean_of(psnr(frames, right)) for frames in others)
            rows.append(measure(group, f"{seconds:g} s", games, world, copy=copy))
        flat = [frames.reshape(-1, *frames.shape[2:]) for frames in (true, made[:, part], first)]
        features = [probe.picture_features(frames) for frames in flat]
        world, copy = (mean_of(feature_distance(features[0], other).reshape(games, -1)) for other in features[1:])
        rows.append(measure("feature distance to truth", f"{seconds:g} s", games, world, copy=copy))
    return rows


def brought_to(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (..., H, W, 3) -> uint8 (..., h, w, 3): each pixel the mean of those it covers."""
    pixels = torch.from_numpy(frames.reshape(-1, *frames.shape[-3:])).permute(0, 3, 1, 2)
    small = F.interpolate(pixels.float(), size, mode="area").round().to(torch.uint8)
    return small.permute(0, 2, 3, 1).numpy().reshape(*frames.shape[:-3], *size, 3)


def standing_still(made: np.ndarray) -> list[Row]:
    """How well a world keeps its first frame when nothing is touched."""
    kept = psnr(made[:, 1:], made[:, :1])
    row = partial(measure, "standing still", games=len(made), truth=60.0)
    seconds = (made.shape[1] - 1) / FPS
    return [
        at_least(row(name=f"PSNR to start after {seconds:g} s, dB", world=mean_of(kept[:, -4:])), 25.0),
        row(name="lowest PSNR on the way, dB", world=mean_of(kept.min(1))),
    ]


def turning(probe: Probe, trials: list[Trial], made: list[np.ndarray]) -> list[Row]:
    """Heading by the probe's sense of place, after turns to both sides: gain, sign, and the error at the end."""

    def end_turn(frames: np.ndarray) -> np.ndarray:
        return unwrapped_turn(probe.read(frames).pose)[:, -ENDS:].mean(1)

    headings = [np.unwrap(trial.states["yaw"], axis=0) for trial in trials]
    true = np.concatenate([yaw[-ENDS:].mean(0) - yaw[0] for yaw in headings])
    found = [np.concatenate([end_turn(frames) for frames in part]) for part in (made, [t.frames for t in trials])]
    degrees = float(np.degrees(np.abs(true).mean()))
    row = partial(measure, "gain", games=len(true))
    gains, sides, errors = zip(
        *((slope_of(f, true), mean_of(f * true > 0), mean_of(np.degrees(np.abs(f - true)))) for f in found),
        strict=True,
    )
    return [
        near_truth(row(name="yaw, by heading", world=gains[0], truth=gains[1])),
        row(name="yaw, share of turns to the right side", world=sides[0], truth=sides[1]),
        row(
            name=f"heading error after a turn of {degrees:.0f}, degrees",
            world=errors[0],
            truth=errors[1],
            copy=lambda games: degrees,
        ),
    ]


def pitching(probe: Probe, trials: list[Trial], made: list[np.ndarray], config: ArenaConfig) -> list[Row]:
    """Pitch by the probe after looking up and down."""

    def tilted(frames: np.ndarray) -> np.ndarray:
        read = probe.read(frames).pose[..., 2]
        return read[:, -ENDS:].mean(1) - read[:, 0]

    pitches = [trial.states["pitch"] / config.rules.pitch_limit for trial in trials]
    true = np.concatenate([pitch[-ENDS:].mean(0) - pitch[0] for pitch in pitches])
    found = [np.concatenate([tilted(frames) for frames in part]) for part in (made, [t.frames for t in trials])]
    return [near_truth(measure("gain", "pitch, by horizon", len(true), *(slope_of(part, true) for part in found)))]


def walking(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig) -> list[Row]:
    """Distance covered along the true path, as a share of it, by the probe's sense of place."""
    half = config.map.size / 2
    true = np.stack([trial.states["x"][-1] - trial.states["x"][0], trial.states["y"][-1] - trial.states["y"][0]], -1)
    length = np.linalg.norm(true, axis=-1)

    def share(frames: np.ndarray) -> Figure:
        place = probe.read(frames).pose[..., 4:] * half
        moved = place[:, -ENDS:].mean(1) - place[:, :ENDS].mean(1)
        return mean_of((moved * true).sum(-1) / length**2)

    name = "walking speed, share of true"
    return [near_truth(measure("movement", name, len(made), share(made), share(trial.frames)))]


def jumping(probe: Probe, trial: Trial, made: np.ndarray, config: ArenaConfig) -> list[Row]:
    """Greatest height by the probe, as a share of a jump's."""
    true = trial.states["z"].max(0) / config.rules.jump_height

    def share(frames: np.ndarray) -> Figure:
        height = probe.read(frames).pose[..., 3]
        smooth = (height[:, :-2] + height[:, 1:-1] + height[:, 2:]) / 3
        return mean_of((smooth.max(1) - height[:, :2].mean(1)) / true)

    name = "jump height, share of true"
    return [near_truth(measure("movement", name, len(made), share(made), share(trial.frames)))]


def selectivity(button: str, pair: tuple[Trial, Trial], made: tuple[np.ndarray, np.ndarray]) -> list[Row]:
    """Where the picture changes when only a weapon button differs: inside the weapon's region, or elsewhere.

    The region is where either true picture has weapon or HUD. The mean change per pixel inside is divided by the sum
    of inside and outside; `strength` is the change inside as a share of the true one.
    """
    region = pair[0].masks | pair[1].masks
    sums = []
    for a, b in (made, (pair[0].frames, pair[1].frames)):
        change = np.abs(a.astype(np.int16) - b.astype(np.int16)).mean(-1)
        sums.append([np.where(part, change, 0).sum((1, 2, 3)) for part in (region, ~region)])
    pixels = [part.sum((1, 2, 3)) for part in (region, ~region)]

    def changes(which: int, games: np.ndarray) -> list[float]:
        return [
            float(total[games].sum() / count[games].sum()) for total, count in zip(sums[which], pixels, strict=True)
        ]

    def kept(which: int, games: np.ndarray) -> float | None:
        inside, outside = changes(which, games)
        return inside / (inside + outside) if inside + outside > 1e-6 else None

    def strength(games: np.ndarray) -> float | None:
        made_inside, true_inside = changes(0, games)[0], changes(1, games)[0]
        return made_inside / true_inside if true_inside else None

    count = len(region)
    return [
        measure("in-scope", f"{button}: selectivity", count, partial(kept, 0), partial(kept, 1)),
        measure("in-scope", f"{button}: strength", count, strength, 1.0),
    ]
