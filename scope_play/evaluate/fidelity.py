"""How true a decoder's pictures are, with no world in between: from the simulator's features, beside the arena's.

    python -m scope_play.evaluate.fidelity weights/nano weights/nano-96x160 --world weights/nano --out sheets

Every decoder is compared at 192x320, a smaller picture being enlarged bicubically, and brought down to 96x160. Beside
all pictures there are those that something used to be wrong with: the scope's ring while it comes up, the surroundings
of a target while one turns, the edges of near walls, what the world leaves half fallen, weapons after a picture from
elsewhere. Starts are of seeds that nothing was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.arena.simulate import ArenaState
from scope_play.evaluate.trials import FIRST_SEED
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.events import LIKELY, decided
from scope_play.records import read_record
from scope_play.runtime.fast_field import fast_drawer
from scope_play.train.build import Options, load_nano_codec
from scope_play.train.data.games import Games
from scope_play.train.data.states import event_config, state_features
from scope_play.train.rollout import rollout
from scope_play.train.sheet import contact_sheet
from scope_play.weights.native import open_native_folder

LARGE, SMALL = (192, 320), (96, 160)
GAME = 80
EDGE = 0.06
"""A step of colour from pixel to pixel that is an edge."""
REACH = 6
"""Pixels beside a target that count as its surroundings."""
NEAR = 1.2
"""Cells to the court's wall that are near."""
STUCK, HALF = 8, 0.3
"""Frames for which a target that is between 0.2 and 0.8 of fallen is stuck: a fall takes seven."""
RING = 0.1
"""Where the ring changes the picture by more, it can be seen."""


@dataclass(frozen=True)
class Truth:
    """Of N moments the states, and as the arena draws them: pictures (N, 3, H, W) in [0, 1], large, without weapon and
    HUD, and small."""

    states: ArenaState
    large: Tensor
    court: Tensor
    small: Tensor


def held_out(count: int) -> ArenaState:
    """States (count,), each at some time of a game of its own."""
    states, _ = sample_states(count, GAME, list(range(FIRST_SEED, FIRST_SEED + count)))
    return states[np.random.default_rng(FIRST_SEED).integers(0, GAME, count), np.arange(count)].copy()


def true_pictures(states: ArenaState) -> Truth:
    return Truth(states, render(states, LARGE), render(states, LARGE, overlay=False), render(states, SMALL))


def render(states: ArenaState, size: tuple[int, int], *, overlay: bool = True) -> Tensor:
    frames = Renderer(ArenaConfig(), *size).render(states, overlay=overlay)[0]
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255.0


@torch.inference_mode()
def draw(codec: NanoCodec, states: ArenaState) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] of the codec's own size, drawn as they are in play."""
    features = torch.from_numpy(state_features(states))
    latents = codec.from_features(features.repeat(1, 4))[:, :, None, None, None]
    return torch.cat([(codec.decoder().push(one) + 1)[:, :, 0] / 2 for one in latents.split(1)])


def figures(drawn: Tensor, truth: Truth) -> dict[str, float]:
    """Decibels of `drawn` (N, 3, H, W), overall and where it is hard."""
    large = enlarged(drawn)
    small = drawn if drawn.shape[-2:] == SMALL else F.interpolate(drawn, SMALL, mode="area")
    error = large - truth.large
    edge = edges(truth.large)
    held = (truth.large != truth.court).any(1, keepdim=True).expand_as(error)
    return {
        "psnr": psnr(error),
        "at edges": psnr(error[edge]),
        "weapon and HUD": psnr(error[held]),
        "court": psnr(error[~held]),
        "down to 96x160, arena at 96x160": psnr(small - truth.small),
        "down to 96x160, arena brought down": psnr(small - F.interpolate(truth.large, SMALL, mode="area")),
    }


def enlarged(drawn: Tensor) -> Tensor:
    return drawn if drawn.shape[-2:] == LARGE else F.interpolate(drawn, LARGE, mode="bicubic").clamp(0, 1)


def edges(pictures: Tensor) -> Tensor:
    """Bool, of the shape of pictures (N, 3, H, W): pixels beside a step of colour."""
    found = torch.zeros_like(pictures[:, 0], dtype=torch.bool)
    across = pictures.diff(dim=-1).abs().amax(1) > EDGE
    down = pictures.diff(dim=-2).abs().amax(1) > EDGE
    found[..., 1:] |= across
    found[..., :-1] |= across
    found[..., 1:, :] |= down
    found[..., :-1, :] |= down
    return found[:, None].expand_as(pictures)


def psnr(error: Tensor) -> float:
    return float(-10 * torch.log10(error.square().mean()))


def coming_up(states: ArenaState) -> ArenaState:
    """The same moments with the scope on its way up, at rest otherwise."""
    states = states.copy()
    for name in ("reload", "switch", "melee", "flash", "spark", "kick"):
        states[name] = 0
    states["aim"] = np.tile([0.2, 0.4, 0.6, 0.8], -(-len(states) // 4))[: len(states)]
    return states


def ring_missing(codec: NanoCodec, states: ArenaState) -> tuple[float, Tensor, Tensor]:
    """Share of the scope's ring that is missing: pixels nearer to what is behind it. And the pictures, and the true."""
    states = coming_up(states)
    truth, drawn = true_pictures(states), enlarged(draw(codec, states))
    rows = (torch.arange(LARGE[0]) + 0.5) / LARGE[0] - 0.5
    columns = (torch.arange(LARGE[1]) + 0.5 - LARGE[1] / 2) / LARGE[0]
    distance = torch.hypot(rows[:, None], columns)
    radius = torch.from_numpy(0.60 - 0.22 * states["aim"]).float()[:, None, None]
    there = ((distance - radius).abs() < 0.012) & (rows[:, None] < 0.1)  # above the weapon and the bar
    there &= (truth.large - truth.court).abs().amax(1) > RING
    seen, behind = ((drawn - other).abs().sum(1) for other in (truth.large, truth.court))
    return float((seen > behind)[there].float().mean()), drawn, truth.large


def fringes(codec: NanoCodec, states: ArenaState) -> tuple[float, Tensor, Tensor]:
    """Decibels within REACH pixels around standing targets, of moments in which one turns."""
    turning = states[np.abs(states["sway_x"]) > 0.25].copy()
    turning["target"] = 0
    lying = turning.copy()
    lying["target"] = 40
    silhouette = (render(turning, LARGE, overlay=False) - render(lying, LARGE, overlay=False)).abs().amax(1) > 0.05
    around = F.max_pool2d(silhouette.float()[:, None], 2 * REACH + 1, 1, REACH)[:, 0] > 0
    around &= ~silhouette & (silhouette.flatten(1).sum(1) > 40)[:, None, None]
    drawn, truth = enlarged(draw(codec, turning)), render(turning, LARGE)
    wanted = around[:, None].expand_as(drawn)
    visible = around.flatten(1).any(1)
    return psnr((drawn - truth)[wanted]), drawn[visible], truth[visible]


def near_walls(codec: NanoCodec, states: ArenaState) -> tuple[float, Tensor, Tensor]:
    """Decibels at the court's edges, where one looks at a wall close by."""
    size = ArenaConfig().map.size
    ahead = [states[name] + NEAR * trig(states["yaw"]) for name, trig in (("x", np.cos), ("y", np.sin))]
    close = states[(np.minimum(*ahead) < 0) | (np.maximum(*ahead) > size)]
    drawn, truth = enlarged(draw(codec, close)), true_pictures(close)
    edge = edges(truth.court) & (truth.large == truth.court)
    return psnr((drawn - truth.large)[edge]), drawn, truth.large


def half_fallen(world: DiT, codec: NanoCodec, games: int = 96, latents: int = 50) -> tuple[int, int]:
    """Of games that the world plays: how many targets fall, and how many are drawn half fallen for STUCK frames."""
    events = event_config()
    clips, rows = Games(codec, seed=FIRST_SEED).clips(games, latents + 1, "half fallen", 0)
    buttons, sticks = rows[..., :6], rows[..., 6:]
    draw = torch.Generator().manual_seed(0)
    made = rollout(
        world, clips[:, :, 0], buttons, sticks, latents + 1,
        window=12, sigmas=(1.0,), draw=draw, project=codec.project,
    ).latents  # fmt: skip
    features = codec.to_features(made[..., 0, 0].transpose(1, 2)).unflatten(-1, (4, -1)).flatten(1, 2)
    falls = sum(int(_begun(features[..., first + 1] > LIKELY).sum()) for first in events.targets)
    drawn = features if codec.config.events is None else decided(features, codec.config.events)
    stuck = 0
    for first in events.targets:
        _, flag, fallen, _ = drawn[..., first : first + 4].unbind(-1)
        between = ((flag - 0.5).abs() < HALF) | ((fallen - 0.5).abs() < HALF)
        whole = F.avg_pool1d(between.float()[:, None], STUCK, 1)[:, 0] == 1
        stuck += int(_begun(whole).sum())
    return falls, stuck


def elsewhere(count: int = 12) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] that show no arena: patches and clouds of colour, coarse and fine."""
    draw = torch.Generator().manual_seed(0)
    pictures = []
    for number in range(count):
        coarse = torch.rand(1, 3, 2 + number % 5, 3 + number % 4, generator=draw)
        fine = torch.rand(1, 3, 24, 40, generator=draw)
        large = F.interpolate(coarse, LARGE, mode="nearest" if number % 2 else "bicubic")
        pictures.append(torch.lerp(large, F.interpolate(fine, LARGE), 0.2 * (number % 3)).clamp(0, 1))
    return torch.cat(pictures)


@torch.inference_mode()
def half_drawn(codec: NanoCodec, states: ArenaState) -> tuple[float, Tensor, Tensor]:
    """Share of pictures from elsewhere after which a game begins with something going on or a weapon between two."""
    pictures, events = elsewhere(), event_config()
    fitting = pictures if codec.config.frame == LARGE else F.interpolate(pictures, codec.config.frame, mode="area")
    latents = codec.encode_image(fitting * 2 - 1)
    features = codec.to_features(latents.flatten(1))[:, -codec.config.features :]
    going_on = (features[:, list(events.passing)].abs() > 0.15).any(1)
    between = ((features[:, list(events.choices)] - 0.5).abs() < 0.35).any(1)
    drawn = torch.cat([codec.decoder().push(one[None, :, None])[:, :, 0] for one in latents])
    return float((going_on | between).float().mean()), enlarged((drawn + 1) / 2), pictures


def _begun(happens: Tensor) -> Tensor:
    """Beginnings of what happens, bool (B, T) -> (B, T - 1)."""
    return happens[:, 1:] & ~happens[:, :-1]


Fault = Callable[[NanoCodec, ArenaState], tuple[float, Tensor, Tensor]]
FAULTS: dict[str, tuple[str, Fault]] = {
    "ring": ("ring missing while the scope comes up, %", ring_missing),
    "fringes": ("around targets in turns, dB", fringes),
    "walls": ("edges of near walls, dB", near_walls),
    "elsewhere": ("busy after a picture from elsewhere, %", half_drawn),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="+", type=Path, help="folders of models, or runs of `train autoencoder`")
    parser.add_argument("--world", type=Path, metavar="DIR", help="a model whose world plays: are its targets whole?")
    parser.add_argument("--moments", type=int, default=256, help="(default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for sheets: the truth, then each decoder")
    args = parser.parse_args()
    states = held_out(args.moments)
    truth = true_pictures(states)
    print("area mean of the arena at 192x320 against it at 96x160:", end=" ")
    print(f"{psnr(F.interpolate(truth.large, SMALL, mode='area') - truth.small):.2f} dB")
    rows: dict[str, list[Tensor]] = {}
    for folder in args.codecs:
        codec = load_nano_codec(Options(codec=folder))
        codec.drawer = fast_drawer(codec)
        drawn = draw(codec, states)
        shown = {"all": (enlarged(drawn), truth.large)}
        found = figures(drawn, truth)
        for name, (what, fault) in FAULTS.items():
            value, ours, true = fault(codec, states)
            found[what] = 100 * value if what.endswith("%") else value
            shown[name] = ours, true
        print(folder)
        for what, value in found.items():
            print(f"  {what:<45}{value:7.2f}")
        if args.world is not None:
            world = load_network(args.world)
            falls, stuck = half_fallen(world, codec)
            print(f"  targets stuck half fallen, of {falls} that fell in play: {stuck}")
        for name, (ours, true) in shown.items():
            rows.setdefault(name, [true[:6]]).append(ours[:6])
    if args.out is not None:
        write_sheets(args.out, rows)


def load_network(folder: Path) -> DiT:
    opened = open_native_folder(folder)
    config = read_record(DiTConfig, opened.config["world"], str(folder), "world")
    return opened.world(lambda: DiT(config), torch.float32).eval()


def write_sheets(folder: Path, rows: dict[str, list[Tensor]]) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in rows.items():
        pictures = [(part * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy() for part in parts]
        Image.fromarray(contact_sheet(pictures)).save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
