"""The inverse-dynamics probe: a small network that says what a player did, and where, from five frames in a row.

It learned from true frames of the arena; on generated frames its answers tell whether the world did what it was told.
Its inner features also serve as a distance between pictures, in the manner of LPIPS (arXiv 1801.03924) but with this
network's own features: figures compare with each other, not with published ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from scope_play.errors import ScopeError
from scope_play.evaluate.labels import POSE

FILE = "probe.safetensors"
CARD = "probe.json"
FLOW_PAIRS = 3
FLOW_CHANNELS = 8
_FLOW_SCALES = (1, 2)
_FLOW_FLOOR = 3e-4


@dataclass(frozen=True)
class ProbeConfig:
    """Frames are shrunk to `height` x `width`; the probe sees `frames` of them around the one it describes."""

    height: int = 48
    width: int = 80
    frames: int = 5
    patch: int = 4
    widths: tuple[int, int, int] = (64, 96, 112)
    hidden: int = 192


@dataclass(frozen=True)
class Reading:
    """What the probe sees in frames 0..T-1 of B clips: activity probability (B, T, 6), sticks (B, T, 4), pose (B, T, 6)
    as `labels.POSE`. float32 numpy."""

    activity: np.ndarray
    sticks: np.ndarray
    pose: np.ndarray


class Probe(nn.Module):
    """(B, frames, 3, h, w) in [0, 1] -> activity logits (B, 6), sticks (B, 4), pose (B, 6)."""

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ProbeConfig()
        first, second, third = config.widths
        shapes = [
            (3 * config.frames * config.patch**2, first, 1, 1),
            (first + FLOW_PAIRS * FLOW_CHANNELS, first, 3, 1),
            (first, second, 3, 2),
            (second, third, 3, 2),
        ]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner, outer, size, stride, size // 2, bias=False), nn.BatchNorm2d(outer), nn.GELU()
            )
            for inner, outer, size, stride in shapes
        )
        rows, columns = config.height // (4 * config.patch), config.width // (4 * config.patch)
        motion = FLOW_PAIRS * FLOW_CHANNELS // 2
        self.hidden = nn.Linear((third + motion) * rows * columns, config.hidden)
        self.head = nn.Linear(config.hidden, 6 + 4 + len(POSE))

    def features(self, stack: Tensor, flow: Tensor) -> list[Tensor]:
        """Activations after each stage, finest first."""
        middle, patch = self.config.frames // 2, self.config.patch
        # The middle frame as it is, the others as changes to their neighbour: motion is small beside colour.
        changes = (stack[:, 1:] - stack[:, :-1]) * 4.0
        x = torch.cat([stack[:, middle : middle + 1] * 2.0 - 1.0, changes], 1)
        x = rearrange(x, "b t c (h p) (w q) -> b (t c p q) h w", p=patch, q=patch)
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            found.append(x)
            if number == 0:
                x = torch.cat([x, rearrange(flow, "b t c h w -> b (t c) h w")], 1)
        return found

    def forward(self, stack: Tensor, flow: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`flow` (B, FLOW_PAIRS, FLOW_CHANNELS, h / patch, w / patch) is worked out where it is not given."""
        flow = self.flow(stack) if flow is None else flow
        x = rearrange(self.features(stack, flow)[-1], "b c h w -> b (c h w)")
        x = torch.cat([x, rearrange(coarse_flow(flow), "b t c h w -> b (t c h w)")], 1)
        x = F.dropout(x, 0.1, self.training)
        activity, sticks, pose = self.head(F.gelu(self.hidden(x))).split([6, 4, len(POSE)], dim=-1)
        return activity, sticks, pose

    def flow(self, stack: Tensor) -> Tensor:
        """Motion between the frame pairs around the middle of each stack, (B, FLOW_PAIRS, FLOW_CHANNELS, h', w')."""
        first = self.config.frames // 2 - 1
        near = stack[:, first : first + FLOW_PAIRS + 1]
        pairs = [pair_flow(near[:, k], near[:, k + 1], self.config.patch) for k in range(FLOW_PAIRS)]
        return torch.stack(pairs, 1)

    def shrink(self, frames: np.ndarray) -> Tensor:
        """uint8 (..., H, W, 3) to float (..., 3, h, w) in [0, 1], each small pixel the mean of those it covers."""
        lead = frames.shape[:-3]
        pixels = torch.from_numpy(np.ascontiguousarray(frames.reshape(-1, *frames.shape[-3:])))
        small = torch.cat(
            [
                F.interpolate(part.permute(0, 3, 1, 2).float(), (self.config.height, self.config.width), mode="area")
                for part in pixels.split(256)
            ]
        )
        return (small / 255.0).reshape(*lead, 3, self.config.height, self.config.width)

    def stacks(self, small: Tensor) -> Tensor:
        """(B, T, 3, h, w) to (B, T, frames, 3, h, w): each frame with its neighbours, the ends repeated."""
        side = self.config.frames // 2
        steps = torch.arange(small.shape[1])[:, None] + torch.arange(-side, side + 1)
        return small[:, steps.clamp(0, small.shape[1] - 1)]

    @torch.no_grad()
    def read(self, frames: np.ndarray) -> Reading:
        """What can be seen in clips of frames, uint8 (B, T, H, W, 3)."""
        found: list[list[Tensor]] = []
        for clip in frames:  # clip by clip: stacks take five times the memory of frames
            small = self.shrink(clip)[None]
            activity, sticks, pose = self(self.stacks(small)[0])
            found.append([activity.sigmoid(), sticks, pose])
        activity, sticks, pose = (torch.stack(part).numpy() for part in zip(*found, strict=True))
        return Reading(activity, sticks, pose)

    @torch.no_grad()
    def picture_features(self, frames: np.ndarray) -> list[Tensor]:
        """Features of single pictures, uint8 (N, H, W, 3), as if each stood still."""
        small = self.shrink(frames)[:, None].expand(-1, self.config.frames, -1, -1, -1)
        parts = [self.features(part, self.flow(part)) for part in small.split(64)]
        return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def pair_flow(before: Tensor, after: Tensor, patch: int) -> Tensor:
    """Motion in each patch between two pictures (B, 3, h, w), by Lucas and Kanade (1981) at two scales.

    (B, FLOW_CHANNELS, h / patch, w / patch): for each scale right and down in that scale's pixels, then how well each
    of the two is determined, 0 to 1.
    """
    channels = []
    for scale in _FLOW_SCALES:
        a, b = F.avg_pool2d(before, scale), F.avg_pool2d(after, scale)
        edged, change = F.pad((a + b) / 2, (1, 1, 1, 1), mode="replicate"), b - a
        across = (edged[:, :, 1:-1, 2:] - edged[:, :, 1:-1, :-2]) / 2
        down = (edged[:, :, 2:, 1:-1] - edged[:, :, :-2, 1:-1]) / 2
        products = (across * across, down * down, across * down, across * change, down * change)
        sums = torch.stack([product.sum(1) for product in products], 1)
        side = patch // scale
        xx, yy, xy, xt, yt = F.avg_pool2d(sums, 2 * side, side, side // 2).unbind(1)
        xx, yy = xx + _FLOW_FLOOR, yy + _FLOW_FLOOR
        area = xx * yy - xy * xy
        channels += [((xy * yt - yy * xt) / area).clamp(-3, 3), ((xy * xt - xx * yt) / area).clamp(-3, 3)]
        channels += [1.0 - _FLOW_FLOOR / part for part in (xx, yy)]
    return torch.stack(channels, 1)


def coarse_flow(flow: Tensor) -> Tensor:
    """Mean motion over four by four patches, each weighted by how well it is determined: half as many channels."""
    split = rearrange(flow, "b t (s k d) h w -> k (b t) (s d) h w", s=len(_FLOW_SCALES), k=2)
    motion, sure = split.unbind(0)
    mean = F.avg_pool2d(motion * sure, 4) / (F.avg_pool2d(sure, 4) + 0.02)
    return rearrange(mean, "(b t) c h w -> b t c h w", b=flow.shape[0])


def save_probe(folder: Path, probe: Probe, card: dict[str, Any]) -> None:
    """Write weights (fp16) and the card: sizes, recipe, and the probe's accuracy on true frames it has not seen."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in probe.state_dict().items()
    }
    save_file(tensors, folder / FILE)
    (folder / CARD).write_text(json.dumps({"config": asdict(probe.config), **card}, indent=2) + "\n")


def load_probe(folder: Path | None = None) -> tuple[Probe, dict[str, Any]]:
    """The shipped probe and its card, or those in `folder`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if folder is None:
        import scope_play.weights

        folder = Path(scope_play.weights.__path__[0]) / "probe"
    try:
        card = json.loads((folder / CARD).read_text())
        tensors = load_file(folder / FILE)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise ScopeError(
            f"{folder} holds no readable probe ({error}); make one with `scope-play eval --probe`."
        ) from error
    config = card["config"]
    probe = Probe(ProbeConfig(**{**config, "widths": tuple(config["widths"])}))
    try:
        probe.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        )
    except RuntimeError as error:
        raise ScopeError(f"{folder / FILE} does not fit {CARD} beside it; copy both from one run.") from error
    return probe.eval(), card
