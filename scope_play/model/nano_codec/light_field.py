"""Pictures from what is known of a moment: two small networks, asked once for every cell of CELL x CELL pixels.

The court is a light field (Sitzmann et al. 2021, "Light Field Networks"): the colour that comes along a ray is a
function of the ray, so a turned or moved camera asks the same function elsewhere and nothing has to be learned twice.
Over it lies the hand's layer, weapon and HUD: a function, with an opacity, of the place in the picture and of what the
weapon does. Both see the state as a scale and a shift of every layer (Perez et al. 2018, "FiLM"). What they make of
cells one by one, a few convolutions make one picture of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

CELL = 4


@dataclass(frozen=True)
class CameraConfig:
    """Which feature of a frame says what of the camera, and in which units.

    Columns: `place` (x, y) from -1 to 1 over the court, `height` of the jump, `heading` (sine, cosine), `pitch` and
    `aim`. `half_court` and `eye` are lengths, `jump` the length of one unit of height; `pitch_limit` is the angle of
    one unit of pitch, `half_view` the tangent of half the vertical field of view, `zoom` what aiming magnifies. Pitch
    shifts the picture (two-point perspective). `sight` is the first of SIGHT columns that repeat all this as
    `sight_line`, if there are such.
    """

    place: tuple[int, int] = (0, 1)
    height: int = 2
    heading: tuple[int, int] = (3, 4)
    pitch: int = 5
    aim: int = 6
    half_court: float = 4.0
    eye: float = 0.6
    jump: float = 0.5
    pitch_limit: float = 0.38
    half_view: float = 0.5
    zoom: float = 1.7
    sight: int | None = None

    def __post_init__(self) -> None:
        for name in ("place", "heading"):  # as lists when they come from JSON
            object.__setattr__(self, name, tuple(int(number) for number in getattr(self, name)))

    @property
    def columns(self) -> int:
        """How many features a frame must have at least."""
        last = -1 if self.sight is None else self.sight + SIGHT - 1
        return 1 + max(*self.place, self.height, *self.heading, self.pitch, self.aim, last)


SIGHT = 5


def sight_line(features: Tensor, camera: CameraConfig) -> Tensor:
    """Features of frames (..., F) -> (..., SIGHT): the line along which one looks, as products of place and angles.

    Its moment about the middle of the court, how far along it that middle lies, and its slope times this, times the
    cosine and times the sine of the heading. By how much a sight line misses something that stands anywhere, to the
    side and in height, is a weighted sum of these and of the heading.
    """
    x, y, sine, cosine = (features[..., index] for index in (*camera.place, *camera.heading))
    slope = torch.tan((features[..., camera.pitch] * camera.pitch_limit).clamp(-1.2, 1.2))
    along = x * cosine + y * sine
    return torch.stack([x * sine - y * cosine, along, slope * along, slope * cosine, slope * sine], -1)


def with_sight(features: Tensor, camera: CameraConfig) -> Tensor:
    """Features (..., F) whose columns of the sight line, if there are such, say what the camera's say."""
    if camera.sight is None:
        return features
    before, after = features[..., : camera.sight], features[..., camera.sight + SIGHT :]
    return torch.cat([before, sight_line(features, camera).to(features.dtype), after], -1)


@dataclass(frozen=True)
class FieldConfig:
    """`width` of each of `layers` + 1 hidden layers, and of the network that reads the state."""

    width: int
    layers: int
    state_width: int = 256


class Field(nn.Module):
    """What is asked (N, P, inputs) and states (N, S) -> answers (N, P, outputs)."""

    def __init__(self, config: FieldConfig, inputs: int, state: int, outputs: int) -> None:
        super().__init__()
        width, inner = config.width, config.state_width
        self.read = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(config.layers))
        self.state = nn.Sequential(
            nn.Linear(state, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, inner), nn.GELU(approximate="tanh")
        )
        self.modulation = nn.Linear(inner, 2 * width * (config.layers + 1))
        self.write = nn.Linear(width, outputs)
        with torch.no_grad():
            for layer in (self.read, *self.hidden):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            self.modulation.weight.mul_(0.5)
            self.modulation.bias.zero_()

    def forward(self, asked: Tensor, state: Tensor) -> Tensor:
        modulation = self.modulation(self.state(state.to(self.read.weight.dtype)))
        layers = rearrange(
            modulation, "n (layers two width) -> layers two n 1 width", two=2, width=self.read.out_features
        )
        with _exact(asked.device.type):  # a place in eight bits is a place beside it
            x = self.read(asked.to(self.read.weight.dtype))
        for number, (scale, shift) in enumerate(layers):
            if number > 0:
                x = self.hidden[number - 1](x)
            x = F.relu(torch.addcmul(shift, x, 1 + scale))
        return self.write(x)


def _exact(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def cell_centres(frame: tuple[int, int], device: torch.device) -> Tensor:
    """(P, 2): right and down from the picture's middle, in picture heights, of every cell, row by row."""
    height, width = frame
    down = (torch.arange(height // CELL, device=device) + 0.5) * CELL / height - 0.5
    right = ((torch.arange(width // CELL, device=device) + 0.5) * CELL - width / 2) / height
    return torch.stack([right.expand(len(down), -1), down[:, None].expand(-1, len(right))], -1).flatten(0, 1)


def waves(x: Tensor, multiples: Iterable[int], unit: float) -> list[Tensor]:
    """Sines and cosines of x (...) times `multiples` of a unit: two of (..., multiples)."""
    phase = x[..., None] * (unit * torch.tensor(list(multiples), device=x.device))
    return [phase.sin(), phase.cos()]


def to(count: int) -> range:
    return range(1, count + 1)


def ray_numbers(fine: int) -> int:
    """How many numbers describe a ray with `fine` short waves."""
    return 13 + 2 * (8 + 6 + 6 + 4 + 8 + 4 + 6 + 5 * fine)


def rays(features: Tensor, centres: Tensor, camera: CameraConfig, fine: tuple[int, ...] = ()) -> Tensor:
    """Features of frames (N, F), as they are, and centres (P, 2) or (N, P, 2) -> (N, P, ray_numbers) in float32.

    Of each ray: its direction, its moment about the middle of the court and how far along it that middle lies
    (Plücker's coordinates, in which every upright has a simple shape), and where it meets the ground or leaves the
    court.
    """
    features = features.float()

    def column(index: int) -> Tensor:
        return features[:, index, None]

    right, down = centres.unbind(-1)
    x, y = column(camera.place[0]), column(camera.place[1])
    sine, cosine = column(camera.heading[0]), column(camera.heading[1])
    length = torch.hypot(sine, cosine).clamp_min(1e-3)
    sine, cosine = sine / length, cosine / length
    aim = column(camera.aim).clamp(0, 1)
    focal = (1 + (camera.zoom - 1) * aim * aim * (3 - 2 * aim)) * 0.5 / camera.half_view
    across = right / focal
    horizon = torch.tan((column(camera.pitch) * camera.pitch_limit).clamp(-1.2, 1.2))
    stretch = torch.sqrt(1 + across * across)
    dx, dy = (cosine - across * sine) / stretch, (sine + across * cosine) / stretch
    climb = (horizon - down / focal) / stretch
    eye = (camera.eye + camera.jump * column(camera.height)) / camera.half_court
    moment, along = x * dy - y * dx, x * dx + y * dy
    leaves = torch.minimum(
        (1 - x * dx.sign()) / dx.abs().clamp_min(1e-4), (1 - y * dy.sign()) / dy.abs().clamp_min(1e-4)
    ).clamp_min(0.005)
    meets = torch.minimum(leaves, eye.clamp_min(0.01) / (-climb).clamp_min(1e-4))
    hit_x, hit_y = (x + dx * meets).clamp(-1.05, 1.05), (y + dy * meets).clamp(-1.05, 1.05)
    hit_z = ((eye + climb * meets) * camera.half_court).clamp(-0.1, 4)
    numbers = [
        dx, dy, climb, moment, along, hit_x, hit_y, hit_z, leaves, meets, 1 / (1 + 4 * leaves),
        right.expand_as(dx), down.expand_as(dx),
    ]  # fmt: skip
    quarter, heading = math.pi / 2, torch.atan2(dy, dx)
    waving = [
        *waves(heading, to(8), 1.0),
        *waves(hit_x, to(6), quarter),
        *waves(hit_y, to(6), quarter),
        *waves(hit_z, to(4), 1.5),
        *waves(moment, to(8), quarter),
        *waves(along, to(4), quarter),
        *waves(climb, to(6), 2.0),
    ]
    for x, unit in ((heading, 1.0), (hit_x, quarter), (hit_y, quarter), (moment, quarter), (climb, 2.0)):
        waving += waves(x, fine, unit)
    return torch.cat([torch.stack(numbers, -1), *waving], -1)


def screen_numbers(fine: int) -> int:
    return 2 + 2 * (8 + 8 + 2 * fine)


def screen(centres: Tensor, fine: tuple[int, ...] = ()) -> Tensor:
    """Centres (..., 2) -> (..., screen_numbers): the place in the picture, and waves of it."""
    right, down = centres.unbind(-1)
    waving = [*waves(down, to(8), math.pi), *waves(right, to(8), 0.6 * math.pi)]
    return torch.cat([centres, *waving, *waves(down, fine, math.pi), *waves(right, fine, math.pi)], -1)


REACH = 3
"""Cells to each side that the finish looks at."""


class Finish(nn.Module):
    """Colours of cells (N, P, 3 CELL CELL), row by row -> what to add, so that neighbours agree about the edges between
    them.

    It begins by adding nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(3 * CELL**2, channels, 3, padding=1)
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.write = nn.Conv2d(channels, 3 * CELL**2, 3, padding=1)
        with torch.no_grad():
            self.write.weight.zero_()
            self.write.bias.zero_()  # type: ignore[union-attr]

    def forward(self, cells: Tensor, rows: int) -> Tensor:
        """`rows`: of cells, in the picture or the window of it that is given; beyond it there is nothing."""
        x = rearrange(cells, "n (h w) c -> n c h w", h=rows)
        # Not ReLU: all channels of the middle layer once died of a large step, and nobody saw it.
        x = F.gelu(self.read(x - 0.5), approximate="tanh")
        x = self.write(F.gelu(self.middle(x), approximate="tanh"))
        return rearrange(x, "n c h w -> n (h w) c")


class LightField(nn.Module):
    """Both layers, and the finish. Colours of cells are (..., 3 CELL CELL) in [0, 1]: pixels row by row, each in red,
    green, blue."""

    def __init__(
        self,
        features: int,
        frame: tuple[int, int],
        camera: CameraConfig,
        court: FieldConfig,
        hand: FieldConfig,
        finish_channels: int,
        fine: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.frame, self.camera, self.fine = frame, camera, fine
        self.court = Field(court, ray_numbers(len(fine)), features, 3 * CELL**2)
        self.hand = Field(hand, screen_numbers(len(fine)), features, 4 * CELL**2)
        self.finish = Finish(finish_channels)

    def behind(self, features: Tensor, state: Tensor, cells: Tensor | None = None) -> Tensor:
        """The court alone: features (N, F) as they are, `state` (N, F) the same at unit spread, cells (N, P) by number,
        all of them unless given -> colours (N, P, ...)."""
        return self.court(rays(features, self._centres(features, cells), self.camera, self.fine), state)

    def covers(self, state: Tensor) -> Tensor:
        """States at unit spread (N, F) -> bool (N, cells): where the hand's layer hides some of the court."""
        return (self._held(state, None)[1] > 0).any(-1).any(-1)

    def _held(self, state: Tensor, cells: Tensor | None) -> tuple[Tensor, Tensor]:
        """Colours (N, P, pixels, 3) of the hand's layer, and the logits of its opacity (N, P, pixels, 1)."""
        answers = self.hand(screen(self._centres(state, cells), self.fine).expand(len(state), -1, -1), state)
        colour, opacity = rearrange(answers, "n p (pixel four) -> n p pixel four", four=4).split([3, 1], -1)
        return colour, opacity

    def over(self, behind: Tensor, state: Tensor, cells: Tensor | None = None) -> Tensor:
        """Colours of the court (N, P, ...) under the hand's layer -> colours of the picture."""
        colour, opacity = self._held(state, cells)
        below = rearrange(behind, "n p (pixel rgb) -> n p pixel rgb", rgb=3)
        return torch.lerp(below, colour.to(below.dtype), opacity.sigmoid().to(below.dtype)).flatten(2)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """Features (N, F) and the same at unit spread -> pictures (N, 3, H, W) in [-1, 1], not clamped."""
        cells = self.over(self.behind(features, state), state)
        return to_pictures(cells + self.finish(cells, self.frame[0] // CELL), self.frame) * 2 - 1

    def _centres(self, like: Tensor, cells: Tensor | None) -> Tensor:
        centres = cell_centres(self.frame, like.device)
        return centres if cells is None else centres[cells]


def to_pictures(cells: Tensor, frame: tuple[int, int]) -> Tensor:
    """Colours of all cells (N, P, 3 CELL CELL) -> pictures (N, 3, H, W)."""
    rows = frame[0] // CELL
    return rearrange(cells, "n (h w) (p q c) -> n c (h p) (w q)", h=rows, p=CELL, q=CELL, c=3)


def to_cells(pictures: Tensor) -> Tensor:
    """Pictures (N, H, W, 3) -> colours of cells (N, P, 3 CELL CELL)."""
    return rearrange(pictures, "n (h p) (w q) c -> n (h w) (p q c)", p=CELL, q=CELL)
