"""Teach the probe on true frames of the arena."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scope_play.actions import AXES, BUTTONS
from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.evaluate.labels import Labels, label
from scope_play.evaluate.probe import Probe, ProbeConfig
from scope_play.evaluate.scores import f1_scores, r2_scores

_RARE = 2.0  # a missed button costs this much more than one imagined: most frames show none


@dataclass(frozen=True)
class ProbeRecipe:
    """`clips` of `frames` frames, drawn once and gone through until the time is up. Seeds are the probe's own."""

    clips: int = 900
    held_out: int = 60
    frames: int = 32
    batch: int = 64
    rate: float = 4e-3
    seed: int = 510_000_000
    held_out_seed: int = 520_000_000


def draw_clips(
    probe: Probe, clips: int, frames: int, seed: int, config: ArenaConfig | None = None
) -> tuple[Tensor, Labels]:
    """Shrunken frames uint8 (clips, frames, 3, h, w) and their labels."""
    config = config or ArenaConfig()
    renderer = Renderer(config, 96, 160)
    states, rows = sample_states(clips, frames + 1, seed, config)
    small = torch.empty(clips, frames, 3, probe.config.height, probe.config.width, dtype=torch.uint8)
    for t in range(frames):
        for begin in range(0, clips, 64):
            pictures, _ = renderer.render(states[t, begin : begin + 64])
            small[begin : begin + 64, t] = (probe.shrink(pictures) * 255.0).round().to(torch.uint8)
    return small, label(states, rows[:-1], config)


def train_probe(minutes: float, recipe: ProbeRecipe | None = None) -> tuple[Probe, dict[str, object]]:
    """A probe taught for `minutes` after its clips are drawn, and its card."""
    recipe = recipe or ProbeRecipe()
    torch.manual_seed(recipe.seed)
    probe = Probe(ProbeConfig())
    small, labels = draw_clips(probe, recipe.clips, recipe.frames, recipe.seed)
    targets = [torch.from_numpy(part) for part in (labels.activity, labels.sticks, labels.visible, labels.pose)]
    optimizer = torch.optim.AdamW(probe.parameters(), lr=recipe.rate, weight_decay=0.02)
    rng = np.random.default_rng(recipe.seed)
    offsets = torch.arange(probe.config.frames) - probe.config.frames // 2
    began, step, loss = time.monotonic(), 0, torch.zeros(())
    while (done := (time.monotonic() - began) / (60.0 * minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 100) * (1.0 - done**2)
        clip = torch.from_numpy(rng.integers(0, recipe.clips, recipe.batch))
        frame = torch.from_numpy(rng.integers(0, recipe.frames, recipe.batch))
        near = (frame[:, None] + offsets).clamp(0, recipe.frames - 1)
        stack = small[clip[:, None], near].float() / 255.0
        with torch.autocast("cpu", torch.bfloat16):
            outputs = probe(stack)
        loss = probe_loss(outputs, *(target[clip, frame] for target in targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    probe.eval()
    card: dict[str, object] = {
        "recipe": {**asdict(recipe), "minutes": minutes, "steps": step},
        "held_out": held_out_scores(probe, recipe),
    }
    return probe, card


def probe_loss(
    outputs: tuple[Tensor, Tensor, Tensor], activity: Tensor, sticks: Tensor, visible: Tensor, pose: Tensor
) -> Tensor:
    """Cross-entropy of what is active, squared error of the sticks that show and of the pose."""
    logits, moved, placed = (part.float() for part in outputs)
    seen = F.binary_cross_entropy_with_logits(logits, activity.float(), pos_weight=torch.tensor(_RARE))
    pushed = ((moved - sticks).square() * visible).mean()
    return seen + 1.5 * pushed + 0.7 * F.mse_loss(placed, pose)


@torch.no_grad()
def held_out_scores(probe: Probe, recipe: ProbeRecipe) -> dict[str, object]:
    """Accuracy on clips of other seeds: F1 of what each button does, R2 of each axis, heading and place errors."""
    small, labels = draw_clips(probe, recipe.held_out, recipe.frames, recipe.held_out_seed)
    read = [probe(probe.stacks((clip.float() / 255.0)[None])[0]) for clip in small]
    activity, sticks, pose = (torch.stack(part).numpy() for part in zip(*read, strict=True))
    off = np.arctan2(pose[..., 1], pose[..., 0]) - np.arctan2(labels.pose[..., 1], labels.pose[..., 0])
    off = np.degrees(np.abs((off + np.pi) % (2 * np.pi) - np.pi))
    half = ArenaConfig().map.size / 2
    return {
        "f1": dict(zip(BUTTONS, f1_scores(activity > 0, labels.activity), strict=True)),
        "r2": dict(zip(AXES, r2_scores(sticks, labels.sticks, labels.visible), strict=True)),
        "heading_error_median_degrees": float(np.median(off)),
        "place_error_median_cells": float(
            np.median(np.hypot(*np.moveaxis((pose - labels.pose)[..., 4:], -1, 0))) * half
        ),
        "height_error_mean_share_of_jump": float(np.abs(pose[..., 3] - labels.pose[..., 3]).mean()),
        "frames": int(labels.activity.shape[0] * labels.activity.shape[1]),
    }
