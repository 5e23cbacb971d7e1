"""The inverse-dynamics probe: a small network that says what a player did, and where, from five frames in a row.

It learned from true frames of the arena; on generated frames its answers tell whether the world did what it was told.
Its inner features also serve as a distance between pictures, in the manner of LPIPS (arXiv 1801.03924) but with this
network's own features: figures compare with each other, not with published ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from scope_play.errors import ScopeError
from scope_play.evaluate.labels import POSE

FILE = "probe.safetensors"
CARD = "probe.json"


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
            (first, first, 3, 1),
            (first, second, 3, 2),
            (second, third, 3, 2),
        ]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner, outer, size, stride, size // 2, bias=False), nn.BatchNorm2d(outer), nn.GELU()
            )
            for inner, outer, size, stride in shapes
        )
        cells = (config.height // (4 * config.patch)) * (config.width // (4 * config.patch))
        self.hidden = nn.Linear(third * cells, config.hidden)
        self.head = nn.Linear(config.hidden, 6 + 4 + len(POSE))

    def features(self, stack: Tensor) -> list[Tensor]:
        """Activations after each stage, finest first."""
        middle = self.config.frames // 2
        # The middle frame as it is, the others as changes to their neighbour: motion is small beside colour.
        changes = (stack[:, 1:] - stack[:, :-1]) * 4.0
        x = torch.cat([stack[:, middle : middle + 1] * 2.0 - 1.0, changes], 1)
        patch = self.config.patch
        x = rearrange(x, "b t c (h p) (w q) -> b (t c p q) h w", p=patch, q=patch)
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = rearrange(self.features(stack)[-1], "b c h w -> b (c h w)")
        activity, sticks, pose = self.head(F.gelu(self.hidden(x))).split([6, 4, len(POSE)], dim=-1)
        return activity, sticks, pose

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
        parts = [self.features(part) for part in small.split(64)]
        return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def save_probe(folder: Path, probe: Probe, card: dict[str, object]) -> None:
    """Write weights (fp16) and the card: sizes, recipe, and the probe's accuracy on true frames it has not seen."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in probe.state_dict().items()
    }
    save_file(tensors, folder / FILE)
    (folder / CARD).write_text(json.dumps({"config": asdict(probe.config), **card}, indent=2) + "\n")


def load_probe(folder: Path | None = None) -> tuple[Probe, dict[str, object]]:
    """The shipped probe and its card, or those in `folder`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if folder is None:
        import scope_play.weights

        folder = Path(scope_play.weights.__path__[0]) / "nano"
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
