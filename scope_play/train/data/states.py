"""What the simulator knows, as numbers that a network can learn from: the features that nano's latents stand for.

They are what a player could tell of a moment: where one stands and looks, what the weapon does, which targets are down.
They come as bounded numbers without jumps (a heading as sine and cosine), about as large as one. The last of them
repeat the camera as the line of sight: whether a shot meets a target is a matter of products of place and heading,
which a small network that adds comes by hardly or never.
"""

from __future__ import annotations

import numpy as np
import torch

from scope_play.arena.config import RIFLE, ArenaConfig
from scope_play.arena.simulate import ArenaState
from scope_play.model.nano_codec.events import EventConfig
from scope_play.model.nano_codec.light_field import SIGHT, CameraConfig, sight_line

PLACE = (0, 1)
HEADING = (3, 4)
"""Where x and y, and the sine and cosine of the heading, stand among the features."""


def state_features(states: ArenaState, config: ArenaConfig | None = None) -> np.ndarray:
    """States of any shape -> float32 (..., FEATURES)."""
    config = config or ArenaConfig()
    rules, half = config.rules, config.map.size / 2
    s = states
    down = rules.target_fall + rules.target_down + rules.target_rise
    columns = [
        s["x"] / half - 1,
        s["y"] / half - 1,
        s["z"] / (1.25 * rules.jump_height),
        np.sin(s["yaw"]),
        np.cos(s["yaw"]),
        s["pitch"] / rules.pitch_limit,
        s["aim"],
        s["kick"],
        s["stride"],
        s["stride"] * np.sin(s["step_phase"]),
        s["stride"] * np.cos(s["step_phase"]),
        s["sway_x"],
        s["sway_y"],
        s["flash"] / rules.flash_frames,
        s["spark"] > 0,
        np.minimum(s["spark"], 10) / 10,
        s["reload"] / rules.reload_frames,
        s["reload"] > 0,
        s["melee"] / rules.melee_frames,
        s["melee"] > 0,
        s["switch"] / rules.switch_frames,
        s["switch"] > 0,
        s["land"] / rules.land_frames,
        s["weapon"] != RIFLE,
        *(s["ammo"][..., weapon] / magazine for weapon, magazine in enumerate(rules.magazine)),
        s["cooldown"] / max(rules.fire_frames),
        s["vz"] * rules.jump_frames / (4 * rules.jump_height),
    ]
    for target in range(len(config.map.targets)):
        left = s["target"][..., target]
        columns += [
            left / down,
            left > 0,
            np.clip((down - left) / rules.target_fall, 0, 1) * (left > 0),
            np.clip(left / rules.target_rise, 0, 1),
        ]
    plain = np.stack([np.asarray(column, np.float32) for column in columns], -1)
    return np.concatenate([plain, sight_line(torch.from_numpy(plain), CameraConfig()).numpy()], -1)


def event_config(config: ArenaConfig | None = None) -> EventConfig:
    """Which of these features tell of what passes."""
    config = config or ArenaConfig()
    rules = config.rules
    down = rules.target_fall + rules.target_down + rules.target_rise
    return EventConfig(
        passing=(2, *range(6, 23), 26, 27),
        flags=((14, 15), (17, 16), (19, 18), (21, 20)),
        choices=(23,),
        targets=tuple(28 + 4 * number for number in range(len(config.map.targets))),
        fall=rules.target_fall / down,
        rise=rules.target_rise / down,
    )


FEATURES = 28 + 4 * 5 + SIGHT
"""How many there are in the court as it is."""


def chunk_features(states: ArenaState) -> np.ndarray:
    """States (T, B) with T = 1 + 4n -> float32 (B, 1 + n, 4 FEATURES): the four frames of every latent, side by side.

    The first latent is the first frame four times.
    """
    features = state_features(states).swapaxes(0, 1)
    whole = np.concatenate([np.repeat(features[:, :1], 3, 1), features], 1)
    return np.ascontiguousarray(whole.reshape(len(whole), -1, 4 * features.shape[-1]))
