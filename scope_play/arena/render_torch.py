"""The renderer for any torch device: the same picture as `render`, function by function, for a whole batch at once.

Training on a GPU draws its data here, from states that the compiled simulator makes on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.light import bake_floor
from scope_play.arena.map import (
    AXIS_X,
    AXIS_Y,
    BOTTOM,
    CAP_FROM,
    CAP_RED,
    DRUM,
    HALF_X,
    HALF_Y,
    KIND,
    RED,
    TOP,
    X,
    Y,
)
from scope_play.arena.overlay import (
    ALPHA,
    BLEED,
    CENTRE,
    DISC,
    DOWN,
    EDGES,
    FROM,
    LEFT,
    QUAD,
    RADIUS,
    RAMP,
    RIGHT,
    SHAPE,
    SOFT,
    TO,
    UP,
)
from scope_play.arena.render import NEAR, light_record, wall_hues
from scope_play.arena.scene import (
    CAM_AIM,
    CAM_EYE,
    CAM_FOCAL,
    CAM_FX,
    CAM_FY,
    CAM_HORIZON,
    CAM_X,
    CAM_Y,
    SceneBuilder,
)
from scope_play.arena.simulate import ArenaState

_NEVER = 1e6


@dataclass
class _Spans:
    """Spans of every slice, (B, C, K), and their colours, (B, C, K, 3). A missing span has key infinity."""

    key: Tensor
    up: Tensor
    down: Tensor
    depth: Tensor
    fog: Tensor
    side: Tensor
    ground: Tensor
    cap_from: Tensor
    body: Tensor
    cap: Tensor

    @staticmethod
    def join(parts: list[_Spans]) -> _Spans:
        return _Spans(*(torch.cat([getattr(part, name) for part in parts], 2) for name in _Spans.__dataclass_fields__))

    def nearest_first(self) -> _Spans:
        """Sorted by key, without the slots that are empty in every slice."""
        most = int(torch.isfinite(self.key).sum(-1).max())
        order = self.key.argsort(dim=-1, stable=True)[..., :most]

        def take(values: Tensor) -> Tensor:
            index = order if values.dim() == 3 else order[..., None].expand(*order.shape, 3)
            return values.gather(2, index)

        return _Spans(*(take(getattr(self, name)) for name in _Spans.__dataclass_fields__))


def _ray_solids(solids: Tensor, x: Tensor, y: Tensor, dx: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """Where ground rays enter and leave footprints; (1, 0) for a miss. All (B, C, P)."""
    ox, oy = x - solids[..., X], y - solids[..., Y]
    half_x, half_y = solids[..., HALF_X], solids[..., HALF_Y]
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    root = b * b - a * (ox * ox + oy * oy - half_x * half_x)
    met = root > 0.0
    root = root.clamp(min=0.0).sqrt()
    ax, ay = solids[..., AXIS_X], solids[..., AXIS_Y]
    px, py = ox * ax + oy * ay, oy * ax - ox * ay
    qx, qy = dx * ax + dy * ay, dy * ax - dx * ay
    qx = torch.where(qx.abs() > 1e-6, qx, 1e-6)
    qy = torch.where(qy.abs() > 1e-6, qy, 1e-6)
    x0, x1 = (-half_x - px) / qx, (half_x - px) / qx
    y0, y1 = (-half_y - py) / qy, (half_y - py) / qy
    enter = torch.maximum(torch.minimum(x0, x1), torch.minimum(y0, y1))
    leave = torch.minimum(torch.maximum(x0, x1), torch.maximum(y0, y1))
    drum = solids[..., KIND] == DRUM
    enter = torch.where(drum, torch.where(met, (-b - root) / a, 1.0), enter)
    leave = torch.where(drum, torch.where(met, (-b + root) / a, 0.0), leave)
    return enter, leave


class TorchRenderer:
    """Draws states on `device`. Weapon and HUD shapes are laid out on the host, everything else on the device."""

    def __init__(self, config: ArenaConfig, height: int, width: int, device: torch.device | str = "cpu") -> None:
        self.config, self.height, self.width, self.device = config, height, width, torch.device(device)
        self.builder = SceneBuilder(config, height, width)
        look = light_record(config)
        self._look = {name: torch.tensor(np.asarray(look[name]), device=device) for name in look.dtype.names or ()}
        self._floor = torch.tensor(bake_floor(config), device=device)
        self._hues = torch.tensor(wall_hues(), device=device)
        still = self.builder.still
        highest = config.rules.eye_height + config.rules.jump_height
        self._low = np.flatnonzero(still[:, TOP] <= highest + 1e-3).tolist()
        self._raised = np.flatnonzero(still[:, BOTTOM] > 0.0).tolist()

    @torch.no_grad()
    def render(self, state: ArenaState) -> tuple[Tensor, Tensor]:
        """Pictures uint8 (B, H, W, 3) and masks bool (B, H, W), on the device."""
        scene = self.builder.build(state)
        camera, solids = (torch.from_numpy(values).to(self.device) for values in (scene.camera, scene.solids))
        items = torch.from_numpy(scene.items[:, : int(scene.item_count.max())]).to(self.device)
        counts = torch.from_numpy(scene.item_count).to(self.device)
        picture = self._world(camera[:, None], solids)
        picture = self._vignette(camera, picture)
        picture, mask = self._overlay(items, counts, picture)
        return (picture.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8), mask

    def _fog(self, far: Tensor) -> Tensor:
        distance = self._look["fog_distance"]
        return far * far / (far * far + distance * distance)

    def _solid_spans(self, cam: Tensor, solids: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor) -> list[_Spans]:
        look = self._look
        solids = solids[:, None]  # (B, 1, P, 16) against slices (B, C, 1)
        cx, cy, eye = cam[..., CAM_X, None], cam[..., CAM_Y, None], cam[..., CAM_EYE, None]
        focal, horizon = cam[..., CAM_FOCAL, None], cam[..., CAM_HORIZON, None]
        dx, dy = dx[..., None], dy[..., None]
        enter, leave = _ray_solids(solids, cx, cy, dx, dy)
        met = (enter <= leave) & (enter >= NEAR)
        enter = torch.where(met, enter, 1.0)
        leave = torch.where(met, leave, 1.0)
        half_x, half_y = solids[..., HALF_X], solids[..., HALF_Y]
        ax, ay = solids[..., AXIS_X], solids[..., AXIS_Y]
        px, py = cx + dx * enter - solids[..., X], cy + dy * enter - solids[..., Y]
        qx, qy = px * ax + py * ay, py * ax - px * ay
        along = qx.abs() * half_y > qy.abs() * half_x
        side_x, side_y = torch.where(qx > 0.0, 1.0, -1.0), torch.where(qy > 0.0, 1.0, -1.0)
        drum = solids[..., KIND] == DRUM
        nx = torch.where(drum, px / half_x, torch.where(along, ax * side_x, -ay * side_y))
        ny = torch.where(drum, py / half_x, torch.where(along, ay * side_x, ax * side_y))
        light = (look["ambient"] + look["diffuse"] * (nx * look["sun_x"] + ny * look["sun_y"]))[..., None]
        fog = self._fog(enter * stretch[..., None])
        top, bottom = solids[..., TOP], solids[..., BOTTOM]
        up = horizon + (eye - top) * focal / enter
        down = horizon + (eye - bottom) * focal / enter
        absent = torch.full_like(enter, torch.inf)
        none = torch.zeros_like(enter)
        body, cap = solids[..., RED : RED + 3], solids[..., CAP_RED : CAP_RED + 3]
        ground = (bottom <= 0.0).to(enter.dtype).expand_as(enter)
        sides = _Spans(
            torch.where(met, enter, absent), up, down, enter, fog, torch.ones_like(enter), ground,
            solids[..., CAP_FROM].expand_as(enter), body * light, cap * light,
        )  # fmt: skip

        def flat(index: list[int], seen: Tensor, first: Tensor, last: Tensor, colour: Tensor) -> _Spans:
            key = torch.where(met & seen, leave, absent)
            shade = colour.expand(*enter.shape, 3)[:, :, index]
            values = (key, first, last, enter, fog, none, none, none + _NEVER)
            fields = [*(value[:, :, index] for value in values), shade, shade]
            return _Spans(*fields)

        top_far = horizon + (eye - top) * focal / leave
        bottom_far = horizon + (eye - bottom) * focal / leave
        tops = flat(self._low, top < eye, top_far, up, cap * 1.06)
        undersides = flat(self._raised, bottom > eye, down, bottom_far, body * 0.5)
        return [sides, tops, undersides]

    def _wall_span(self, cam: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor) -> _Spans:
        look, size, wall = self._look, self.config.map.size, self.config.map.wall_height
        dx = torch.where(dx.abs() > 1e-6, dx, 1e-6)
        dy = torch.where(dy.abs() > 1e-6, dy, 1e-6)
        tx = (torch.where(dx > 0.0, size, 0.0) - cam[..., CAM_X]) / dx
        ty = (torch.where(dy > 0.0, size, 0.0) - cam[..., CAM_Y]) / dy
        t = torch.minimum(tx, ty).clamp(min=NEAR)
        across = tx < ty
        nx = torch.where(across, torch.where(dx > 0.0, -1.0, 1.0), 0.0)
        ny = torch.where(across, 0.0, torch.where(dy > 0.0, -1.0, 1.0))
        px, py = cam[..., CAM_X] + dx * t, cam[..., CAM_Y] + dy * t
        along = torch.where(across, py, px)
        corner = (1.0 - torch.minimum(along, size - along) / 1.1).clamp(min=0.0)
        cx, cy = px - size / 2, py - size / 2
        radius = (cx * cx + cy * cy).sqrt()
        cx, cy = cx / radius, cy / radius
        light = look["ambient"] + look["diffuse"] * (nx * look["sun_x"] + ny * look["sun_y"])
        light = (light * (1.0 - 0.26 * corner * corner))[..., None]
        focal, horizon, eye = cam[..., CAM_FOCAL], cam[..., CAM_HORIZON], cam[..., CAM_EYE]
        hue = 0.55 + 0.36 * (cx[..., None] * self._hues[:, 0] + cy[..., None] * self._hues[:, 1])
        cap = (hue + (look["wall_coping"] - hue) * 0.62) * light
        one = torch.ones_like(t)
        up, down = horizon + (eye - wall) * focal / t, horizon + eye * focal / t
        values = (t, up, down, t, self._fog(t * stretch), one, one, one * (wall - 0.13), hue * light, cap)
        return _Spans(*(value.unsqueeze(2) for value in values))

    def _hill_spans(self, cam: Tensor, dx: Tensor, dy: Tensor) -> _Spans:
        look = self._look
        heading = torch.atan2(dy, dx)
        scale = cam[..., CAM_FOCAL] * (dx * dx + dy * dy).sqrt()
        horizon = cam[..., CAM_HORIZON].expand_as(heading)
        near = 0.105 + 0.045 * torch.sin(2.0 * heading + 0.6) + 0.030 * torch.sin(5.0 * heading + 2.0)
        far = 0.165 + 0.060 * torch.sin(3.0 * heading + 4.0) + 0.028 * torch.sin(7.0 * heading + 1.0)
        ridges = []
        for ridge, (rise, colour) in enumerate(((near, look["hill_near"]), (far, look["hill_far"]))):
            none = torch.zeros_like(heading)
            shade = colour.expand(*heading.shape, 3)
            values = (
                none + 1e3 + ridge, horizon - rise * scale, horizon, none + 1e3, none + 0.22 + 0.2 * ridge,
                none, none, none + _NEVER, shade, shade,
            )  # fmt: skip
            ridges.append(_Spans(*(value.unsqueeze(2) for value in values)))
        return _Spans.join(ridges)

    def _world(self, cam: Tensor, solids: Tensor) -> Tensor:
        """World colours, (B, H, W, 3). `cam` is (B, 1, 8)."""
        look, height, width, samples = self._look, self.height, self.width, self.config.subcolumns
        columns = torch.arange(width * samples, device=self.device, dtype=torch.float32)
        u = ((columns + 0.5) / samples - 0.5 * width) / height / cam[..., CAM_FOCAL]
        dx = cam[..., CAM_FX] - u * cam[..., CAM_FY]
        dy = cam[..., CAM_FY] + u * cam[..., CAM_FX]
        stretch = (1.0 + u * u).sqrt()
        sunward = ((dx * look["sun_x"] + dy * look["sun_y"]) / stretch).clamp(min=0.0)
        sunward = (sunward * sunward * 0.9)[..., None]
        haze = (look["haze"] + (look["haze_sunward"] - look["haze"]) * sunward)[:, :, None]  # (B, C, 1, 3)
        spans = _Spans.join(
            [
                *self._solid_spans(cam, solids, dx, dy, stretch),
                self._wall_span(cam, dx, dy, stretch),
                self._hill_spans(cam, dx, dy),
            ]
        ).nearest_first()
        left = torch.ones(*u.shape, height, device=self.device)
        picture = torch.zeros(*u.shape, height, 3, device=self.device)
        for k in range(spans.key.shape[2]):
            span = _Spans(*(getattr(spans, name)[:, :, k : k + 1] for name in _Spans.__dataclass_fields__))
            self._paint_span(span, cam, haze, left, picture)
        self._paint_rest(cam, dx, dy, stretch, haze, left, picture)
        batch = picture.shape[0]
        return picture.view(batch, width, samples, height, 3).mean(2).transpose(1, 2).contiguous()

    def _paint_span(self, span: _Spans, cam: Tensor, haze: Tensor, left: Tensor, picture: Tensor) -> None:
        """Add one span to every slice where something is still `left` to cover. Updates left and picture."""
        half = 0.5 * self.height
        rows = torch.arange(self.height, device=self.device, dtype=torch.float32)
        up, down = span.up * self.height + half, span.down * self.height + half
        cover = (torch.minimum(down, rows + 1.0) - torch.maximum(up, rows)).clamp(0.0, 1.0)
        weight = torch.where(torch.isfinite(span.key), cover, 0.0) * left
        left -= weight
        depth = span.depth / cam[..., CAM_FOCAL, None]
        slope = depth / self.height
        z = cam[..., CAM_EYE, None] - (rows + 0.5 - half) * slope + cam[..., CAM_HORIZON, None] * depth
        mix = ((z - span.cap_from) / slope + 0.5).clamp(0.0, 1.0) * span.side
        low = (1.0 - z.clamp(min=0.0) / 0.7).clamp(min=0.0) * span.ground
        light = 1.0 - 0.34 * low * low
        colour = (span.body + (span.cap - span.body) * mix[..., None]) * light[..., None]
        picture += weight[..., None] * (colour + (haze - colour) * span.fog[..., None])

    def _paint_rest(
        self, cam: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor, haze: Tensor, left: Tensor, picture: Tensor
    ) -> None:
        """Floor below the horizon and sky above it, where nothing stands. Updates picture."""
        rows = torch.arange(self.height, device=self.device, dtype=torch.float32)
        v = (rows + 0.5) / self.height - 0.5 - cam[..., CAM_HORIZON, None]  # (B, 1, H)
        below = v > 0.0
        t = cam[..., CAM_EYE, None] * cam[..., CAM_FOCAL, None] / torch.where(below, v, 1.0)
        colour = torch.where(
            below[..., None],
            self._floor_colour(cam, dx, dy, stretch, haze, t),
            self._sky(cam, dx, dy, stretch, haze, v),
        )
        picture += left[..., None] * colour

    def _floor_colour(self, cam: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor, haze: Tensor, t: Tensor) -> Tensor:
        floor, texels = self._floor, self._floor.shape[0]
        scale = texels / self.config.map.size
        x = ((cam[..., CAM_X, None] + dx[..., None] * t) * scale - 0.5).clamp(0.0, texels - 1.001)
        y = ((cam[..., CAM_Y, None] + dy[..., None] * t) * scale - 0.5).clamp(0.0, texels - 1.001)
        ix, iy = x.long(), y.long()
        ux, uy = (x - ix)[..., None], (y - iy)[..., None]
        upper = floor[iy, ix] + (floor[iy, ix + 1] - floor[iy, ix]) * ux
        lower = floor[iy + 1, ix] + (floor[iy + 1, ix + 1] - floor[iy + 1, ix]) * ux
        colour = upper + (lower - upper) * uy
        return colour + (haze - colour) * self._fog(t * stretch[..., None])[..., None]

    def _sky(self, cam: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor, haze: Tensor, v: Tensor) -> Tensor:
        look = self._look
        sun_flat = ((dx * look["sun_x"] + dy * look["sun_y"]) / stretch)[..., None]
        slope = (-v / cam[..., CAM_FOCAL, None] / stretch[..., None]).clamp(min=0.0)
        toward = (sun_flat + slope * look["sun_slope"]) * look["sun_norm"] / (1.0 + slope * slope).sqrt()
        wide = toward.clamp(min=0.0).square().square().square()
        glow = wide.square()
        glow = (glow * glow * glow)[..., None]
        disc = ((toward - 0.9905) / 0.0022).clamp(0.0, 1.0)[..., None]
        colour = haze + (look["sky_middle"] - haze) * (slope / (slope + 0.16))[..., None]
        colour = colour + (look["sky_zenith"] - colour) * (slope / (slope + 0.9))[..., None]
        colour = colour + (look["haze_sunward"] - colour) * (0.22 * wide)[..., None]
        colour = colour + (look["sun"] - colour) * (0.62 * glow)
        return colour + (look["sun"] - colour) * disc

    def _centred(self) -> tuple[Tensor, Tensor]:
        """Pixel middles x (1, 1, W) and y (1, H, 1) in picture heights from the middle."""
        x = (torch.arange(self.width, device=self.device) + 0.5 - 0.5 * self.width) / self.height
        y = (torch.arange(self.height, device=self.device) + 0.5 - 0.5 * self.height) / self.height
        return x[None, None, :], y[None, :, None]

    def _vignette(self, camera: Tensor, picture: Tensor) -> Tensor:
        x, y = self._centred()
        dark = (((x * x + y * y).sqrt() - 0.34) / 0.10).clamp(0.0, 1.0)
        dark = dark * dark * (3.0 - 2.0 * dark)
        light = 1.0 - self._look["vignette"] * camera[:, None, None, CAM_AIM] * dark
        return picture * light[..., None]

    def _overlay(self, items: Tensor, counts: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Items over the picture, in order; and where they are, (B, H, W)."""
        x, y = self._centred()
        columns = torch.arange(self.width, device=self.device)[None, None, :]
        rows = torch.arange(self.height, device=self.device)[None, :, None]
        mask = torch.zeros(picture.shape[:-1], dtype=torch.bool, device=self.device)
        for k in range(items.shape[1]):
            item = items[:, k, :, None, None]  # columns (B, 1, 1)
            kind, scale = item[:, SHAPE], self.height
            inside = torch.stack([item[:, e + 2] - item[:, e] * x - item[:, e + 1] * y for e in range(EDGES, RAMP, 3)])
            quad = (inside.amin(0) * scale + 0.5 + item[:, BLEED]).clamp(0.0, 1.0)
            dx, dy = x - item[:, CENTRE], y - item[:, CENTRE + 1]
            distance = (dx * dx + dy * dy).sqrt()
            soft, radius = item[:, SOFT], item[:, RADIUS]
            disc = ((radius - distance) / torch.where(kind == DISC, soft, 1.0)).clamp(0.0, 1.0)
            disc = disc * disc * (3.0 - 2.0 * disc)
            ring = ((soft - (distance - radius).abs()) * scale + 0.5).clamp(0.0, 1.0)
            cover = torch.where(kind == QUAD, quad, torch.where(kind == DISC, disc, ring))
            # Acute corners of a quad reach far beyond it: every shape ends at its bounds, as in `render`.
            drawn = (columns >= (item[:, LEFT] * scale + 0.5 * self.width).floor()) & (k < counts[:, None, None])
            drawn = drawn & (columns < (item[:, RIGHT] * scale + 0.5 * self.width).ceil())
            drawn = drawn & (rows >= (item[:, UP] * scale + 0.5 * scale).floor())
            drawn = drawn & (rows < (item[:, DOWN] * scale + 0.5 * scale).ceil())
            alpha = torch.where(drawn, cover * item[:, ALPHA], 0.0)
            ramp = item[:, RAMP] * x + item[:, RAMP + 1] * y + item[:, RAMP + 2]
            spread = distance / torch.where(kind == QUAD, 1.0, radius)
            mix = torch.where(kind == QUAD, ramp, spread).clamp(0.0, 1.0)[..., None]
            first, last = items[:, k, None, None, FROM : FROM + 3], items[:, k, None, None, TO : TO + 3]
            picture = picture + (first + (last - first) * mix - picture) * alpha[..., None]
            mask |= alpha > 0.0
        return picture, mask


def sample_clip(
    renderer: TorchRenderer, batch: int, frames: int, seed: int | Sequence[int], at_once: int = 256
) -> tuple[Tensor, Tensor, Tensor]:
    """`behaviour.sample_clip` drawn on the renderer's device: frames uint8 (B, T, H, W, 3), rows float32 (B, T, 10) and
    masks bool (B, T, H, W). `at_once` pictures are drawn together."""
    states, rows = sample_states(batch, frames, seed, renderer.config)
    flat = np.ascontiguousarray(states.T).reshape(-1)
    parts = [renderer.render(flat[begin : begin + at_once]) for begin in range(0, len(flat), at_once)]
    pictures = torch.cat([picture for picture, _ in parts]).unflatten(0, (batch, frames))
    masks = torch.cat([mask for _, mask in parts]).unflatten(0, (batch, frames))
    return pictures, torch.from_numpy(rows.swapaxes(0, 1).copy()).to(renderer.device), masks
