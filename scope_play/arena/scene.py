"""From state to what a renderer draws: a camera, the solids with their targets up or down, and the overlay shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from scope_play.arena.config import ArenaConfig, as_record
from scope_play.arena.geometry import Record, target_stand
from scope_play.arena.map import CAP_FROM, CAP_RED, RED, SOLID_WIDTH, TOP
from scope_play.arena.overlay import ITEM_WIDTH, MAX_ITEMS, draw_overlays
from scope_play.arena.simulate import ArenaState, target_solids

# Columns of the camera: place, eye height, forward direction, focal length and horizon in picture heights, aim.
CAM_X, CAM_Y, CAM_EYE, CAM_FX, CAM_FY, CAM_FOCAL, CAM_HORIZON, CAM_AIM = range(8)
CAMERA_WIDTH = 8


@dataclass(frozen=True)
class Scene:
    """camera (B, 8), solids (B, P, 16), items (B, N, 32), item_count (B,): float32 but the last, int64."""

    camera: np.ndarray
    solids: np.ndarray
    items: np.ndarray
    item_count: np.ndarray


@njit(cache=True, nogil=True)
def _fill(
    states: np.ndarray,
    still: np.ndarray,
    targets: int,
    rules: Record,
    look: Record,
    camera: np.ndarray,
    solids: np.ndarray,
) -> None:
    first = still.shape[0] - targets
    for i in range(states.shape[0]):
        s = states[i]
        dip = 0.0
        if s.land > 0.0:
            dip = rules.land_dip * math.sin(math.pi * s.land / (rules.land_frames + 1.0))
        focal = 0.5 / look.half_view * (1.0 + (rules.zoom - 1.0) * s.aim * s.aim * (3.0 - 2.0 * s.aim))
        camera[i, CAM_X] = s.x
        camera[i, CAM_Y] = s.y
        camera[i, CAM_EYE] = rules.eye_height + s.z - dip
        camera[i, CAM_FX] = math.cos(s.yaw)
        camera[i, CAM_FY] = math.sin(s.yaw)
        camera[i, CAM_FOCAL] = focal
        camera[i, CAM_HORIZON] = math.tan(s.pitch) * focal
        camera[i, CAM_AIM] = s.aim
        solids[i] = still
        for k in range(targets):
            stand = target_stand(s.target[k], rules)
            solid = solids[i, first + k]
            solid[TOP] = max(0.02, solid[TOP] * stand)
            solid[CAP_FROM] = solid[CAP_FROM] * stand
            since = rules.target_fall + rules.target_down + rules.target_rise - s.target[k]
            if s.target[k] > 0.0 and since < rules.target_fall:  # a hit target glows while it falls
                glow = 1.0 - since / rules.target_fall
                for c in range(3):
                    solid[RED + c] += (1.0 - solid[RED + c]) * 0.5 * glow
                    solid[CAP_RED + c] += (1.0 - solid[CAP_RED + c]) * 0.85 * glow


class SceneBuilder:
    """Builds scenes for one configuration and picture size."""

    def __init__(self, config: ArenaConfig, height: int, width: int) -> None:
        self.rules, self.look = as_record(config.rules), as_record(config.look)
        self.targets = len(config.map.targets)
        standing = [solid.as_row() for solid in config.map.solids]
        self.still = np.concatenate([np.array(standing, np.float32).reshape(-1, SOLID_WIDTH), target_solids(config)])
        self.pixel, self.aspect = 1.0 / height, width / height

    def build(self, state: ArenaState) -> Scene:
        """The scene of every environment in `state`."""
        batch = len(state)
        scene = Scene(
            camera=np.zeros((batch, CAMERA_WIDTH), np.float32),
            solids=np.zeros((batch, *self.still.shape), np.float32),
            items=np.zeros((batch, MAX_ITEMS, ITEM_WIDTH), np.float32),
            item_count=np.zeros(batch, np.int64),
        )
        _fill(state, self.still, self.targets, self.rules, self.look, scene.camera, scene.solids)
        draw_overlays(state, self.rules, self.pixel, self.aspect, scene.items, scene.item_count)
        return scene
