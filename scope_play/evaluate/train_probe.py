"""Teach the probe on true frames of the arena."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scope_play.actions import AXES, BUTTONS
from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.evaluate.labels import Labels, label
from scope_play.evaluate.probe import FLOW_PAIRS, Probe, ProbeConfig, pair_flow
from scope_play.evaluate.scores import f1_score, r2_score

_STICK_VARIANCE = (0.052, 0.081, 0.27, 0.030)  # in training clips: each axis weighs the same
_RARE = 2.0  # a missed button costs this much more than one imagined: most frames show none


@dataclass(frozen=True)
class ProbeRecipe:
    """Short windows from many games: frames of one game are too alike to learn from. Each window gives the frames
    that have all their neighbours. Windows are drawn once and gone through until the time is up; the seeds are used
    by nothing else."""

    windows: int = 14000
    held_out: int = 700
    frames: int = 7
    game: int = 48
    batch: int = 64
    rate: float = 3e-3
    seed: int = 510_000_000
    held_out_seed: int = 520_000_000


def draw_windows(probe: Probe, count: int, seed: int, recipe: ProbeRecipe) -> tuple[Tensor, Labels]:
    """One window from each of `count` games: shrunken frames uint8 (count, frames, 3, h, w) and their labels."""
    config, length = ArenaConfig(), recipe.frames
    renderer = Renderer(config, 96, 160)
    states, rows = sample_states(count, recipe.game, seed, config)
    begins = np.random.default_rng(seed).integers(0, recipe.game - length, count)
    times, games = begins + np.arange(length + 1)[:, None], np.arange(count)
    states, rows = states[times, games], rows[times[:-1], games]
    small = torch.empty(count, length, 3, probe.config.height, probe.config.width, dtype=torch.uint8)
    for t in range(length):
        for begin in range(0, count, 64):
            pictures, _ = renderer.render(states[t, begin : begin + 64])
            small[begin : begin + 64, t] = (probe.shrink(pictures) * 255.0).round().to(torch.uint8)
    return small, label(states, rows, config)


def train_probe(minutes: float, recipe: ProbeRecipe | None = None) -> tuple[Probe, dict[str, Any]]:
    """A probe taught for `minutes` after its windows are drawn, and its card."""
    recipe = recipe or ProbeRecipe()
    torch.manual_seed(recipe.seed)
    probe = Probe(ProbeConfig())
    small, labels = draw_windows(probe, recipe.windows, recipe.seed, recipe)
    flows = torch.cat([window_flow(probe, part) for part in small.split(64)])
    targets = [torch.from_numpy(part) for part in (labels.activity, labels.sticks, labels.visible, labels.pose)]
    optimizer = torch.optim.AdamW(probe.parameters(), lr=recipe.rate, weight_decay=0.1)
    rng = np.random.default_rng(recipe.seed)
    side = probe.config.frames // 2
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60.0 * minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 100) * (1.0 - done**2)
        window = torch.from_numpy(rng.integers(0, recipe.windows, recipe.batch))
        frame = torch.from_numpy(rng.integers(side, recipe.frames - side, recipe.batch))
        near = frame[:, None] + torch.arange(-side, side + 1)
        pairs = frame[:, None] + torch.arange(FLOW_PAIRS) - 1
        stack = small[window[:, None], near].float() / 255.0
        with torch.autocast("cpu", torch.bfloat16):
            outputs = probe(stack, flows[window[:, None], pairs].float())
        loss = probe_loss(outputs, *(target[window, frame] for target in targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    probe.eval()
    card: dict[str, Any] = {
        "recipe": {**asdict(recipe), "minutes": minutes, "steps": step},
        "held_out": held_out_scores(probe, recipe),
    }
    return probe, card


def window_flow(probe: Probe, small: Tensor) -> Tensor:
    """Motion between neighbours in windows (N, T, 3, h, w), fp16 (N, T - 1, FLOW_CHANNELS, h', w')."""
    frames = small.float() / 255.0
    flow = pair_flow(frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1), probe.config.patch)
    return flow.unflatten(0, (small.shape[0], small.shape[1] - 1)).half()


def probe_loss(
    outputs: tuple[Tensor, Tensor, Tensor], activity: Tensor, sticks: Tensor, visible: Tensor, pose: Tensor
) -> Tensor:
    """Cross-entropy of what is active, squared error of the sticks that show and of the pose."""
    logits, moved, placed = (part.float() for part in outputs)
    seen = F.binary_cross_entropy_with_logits(logits, activity.float(), pos_weight=torch.tensor(_RARE))
    pushed = ((moved - sticks).square() / torch.tensor(_STICK_VARIANCE) * visible).mean()
    return seen + 0.4 * pushed + 0.7 * F.mse_loss(placed, pose)


@torch.no_grad()
def held_out_scores(probe: Probe, recipe: ProbeRecipe) -> dict[str, Any]:
    """Accuracy on games of other seeds: F1 of what each button does, R2 of each axis, heading and place errors."""
    small, labels = draw_windows(probe, recipe.held_out, recipe.held_out_seed, recipe)
    side = probe.config.frames // 2
    inner = slice(side, recipe.frames - side)
    read = [probe(probe.stacks(window[None].float() / 255.0)[0, inner]) for window in small]
    activity, sticks, pose = (torch.stack(part).numpy() for part in zip(*read, strict=True))
    true = labels.pose[:, inner]
    off = np.arctan2(pose[..., 1], pose[..., 0]) - np.arctan2(true[..., 1], true[..., 0])
    off = np.degrees(np.abs((off + np.pi) % (2 * np.pi) - np.pi))
    place = np.linalg.norm((pose - true)[..., 4:], axis=-1) * ArenaConfig().map.size / 2
    return {
        "f1": {n: f1_score(activity[..., k] > 0, labels.activity[:, inner, k]) for k, n in enumerate(BUTTONS)},
        "r2": {
            n: r2_score(sticks[..., k], labels.sticks[:, inner, k], labels.visible[:, inner, k])
            for k, n in enumerate(AXES)
        },
        "heading_error_median_degrees": float(np.median(off)),
        "place_error_median_cells": float(np.median(place)),
        "height_error_mean_share_of_jump": float(np.abs(pose[..., 3] - true[..., 3]).mean()),
        "frames": int(off.size),
    }
