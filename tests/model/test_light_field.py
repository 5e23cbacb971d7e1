"""Rays against the arena's own camera, and what the fields promise of cells, layers and headings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.scene import CAM_EYE, CAM_FOCAL, CAM_FX, CAM_FY, CAM_HORIZON, CAM_X, CAM_Y, SceneBuilder
from scope_play.model.nano_codec.light_field import (
    CELL,
    CameraConfig,
    FieldConfig,
    LightField,
    cell_centres,
    ray_numbers,
    rays,
    screen,
    screen_numbers,
    sight_line,
    to_cells,
    to_pictures,
)
from scope_play.train.build import Options, load_nano_codec
from scope_play.train.data.sources import ArenaSource
from scope_play.train.data.states import FEATURES, state_features
from scope_play.weights.catalog import NANO_MODELS, nano_folder

FRAME = (32, 48)
CAMERA = CameraConfig()


@pytest.fixture(scope="module")
def light_field() -> LightField:
    torch.manual_seed(0)
    small = FieldConfig(width=16, layers=1, state_width=16)
    return LightField(FEATURES, FRAME, CAMERA, small, small, 8).requires_grad_(False)


def moments(count: int) -> tuple[np.ndarray, torch.Tensor]:
    states, _ = sample_states(count, 60, 11)
    state = states[-1].copy()
    state["land"] = 0  # the dip of a landing is left to the network
    return state, torch.from_numpy(state_features(state))


def test_centres_are_in_picture_heights_from_the_middle() -> None:
    centres = cell_centres((32, 48), torch.device("cpu"))
    assert centres.shape == (8 * 12, 2)
    assert centres[0].tolist() == pytest.approx([(2 - 24) / 32, 2 / 32 - 0.5])
    assert centres[-1].tolist() == pytest.approx([(46 - 24) / 32, 30 / 32 - 0.5])
    assert (centres[1] - centres[0]).tolist() == pytest.approx([CELL / 32, 0])


def test_a_sight_line_says_by_how_much_it_misses_what_stands_anywhere() -> None:
    state, features = moments(30)
    moment, along, slope_along, slope_cosine, slope_sine = sight_line(features, CAMERA).double().numpy().T
    half, (sine, cosine) = CAMERA.half_court, features[:, list(CAMERA.heading)].double().numpy().T
    for x, y in ArenaConfig().map.targets:
        ox, oy = x - state["x"], y - state["y"]
        ahead = ox * np.cos(state["yaw"]) + oy * np.sin(state["yaw"])
        aside = ox * np.sin(state["yaw"]) - oy * np.cos(state["yaw"])
        tx, ty = x / half - 1, y / half - 1
        np.testing.assert_allclose(half * (tx * cosine + ty * sine - along), ahead, atol=1e-5)
        np.testing.assert_allclose(half * (tx * sine - ty * cosine - moment), aside, atol=1e-5)
        rise = half * (tx * slope_cosine + ty * slope_sine - slope_along)
        np.testing.assert_allclose(rise, ahead * np.tan(state["pitch"]), atol=1e-5)


def test_rays_are_those_of_the_arenas_camera() -> None:
    state, features = moments(30)
    cam = SceneBuilder(ArenaConfig(), *FRAME).build(state).camera.astype(np.float64)
    centres = cell_centres(FRAME, torch.device("cpu"))
    found = rays(features, centres, CAMERA).double().numpy()
    right, down = centres.double().numpy().T
    across = right / cam[:, CAM_FOCAL, None]
    stretch = np.hypot(1, across)
    dx = (cam[:, CAM_FX, None] - across * cam[:, CAM_FY, None]) / stretch
    dy = (cam[:, CAM_FY, None] + across * cam[:, CAM_FX, None]) / stretch
    climb = -(down - cam[:, CAM_HORIZON, None]) / cam[:, CAM_FOCAL, None] / stretch
    for number, expected in enumerate((dx, dy, climb)):
        np.testing.assert_allclose(found[..., number], expected, atol=2e-5)
    # Walk along each ray to what it meets: it is on the ground or on the court's edge, and the ray passes through it.
    size = ArenaConfig().map.size
    x, y = cam[:, CAM_X, None] / (size / 2) - 1, cam[:, CAM_Y, None] / (size / 2) - 1
    hit_x, hit_y, hit_z = (found[..., number] for number in (5, 6, 7))
    meets = found[..., 9]
    np.testing.assert_allclose(x + dx * meets, hit_x, atol=1e-3)
    np.testing.assert_allclose(y + dy * meets, hit_y, atol=1e-3)
    height = cam[:, CAM_EYE, None] + climb * meets * size / 2
    free = height < 3.9
    np.testing.assert_allclose(height[free], hit_z[free], atol=5e-3)
    on_ground, on_edge = np.abs(height) < 5e-3, np.maximum(np.abs(hit_x), np.abs(hit_y)) > 0.999
    assert (on_ground | on_edge).all()
    assert on_ground.any()
    assert (on_edge & ~on_ground).any()
    # Plücker: the moment is the same wherever on the ray it is taken.
    np.testing.assert_allclose(hit_x * dy - hit_y * dx, found[..., 3], atol=2e-3)


def test_numbers_are_as_many_as_they_say() -> None:
    _, features = moments(2)
    centres = cell_centres(FRAME, torch.device("cpu"))
    assert rays(features, centres, CAMERA).shape == (2, len(centres), ray_numbers(0))
    assert screen(centres).shape == (len(centres), screen_numbers(0))


def test_a_heading_drawn_too_long_is_the_same_heading() -> None:
    centres = cell_centres(FRAME, torch.device("cpu"))
    angles = torch.linspace(-3, 3, 7)
    features = torch.zeros(7, 8)
    features[:, 3], features[:, 4] = angles.sin(), angles.cos()
    long, turned = features.clone(), features.clone()
    long[:, 3:5] *= 1.7
    turned[:, 3], turned[:, 4] = (angles + 2 * math.pi).sin(), (angles + 2 * math.pi).cos()
    drawn = rays(features, centres, CAMERA)
    for other in (long, turned):
        torch.testing.assert_close(rays(other, centres, CAMERA), drawn, atol=1e-3, rtol=1e-3)


def test_a_turn_shifts_the_rays_and_changes_nothing_else() -> None:
    """The middle of the picture after a turn asks what the edge asked before it."""
    features = torch.zeros(2, 8)
    features[:, 0], features[:, 1] = 0.2, -0.3
    right = 0.4
    angle = math.atan(right)
    features[0, 4] = 1.0
    features[1, 3], features[1, 4] = math.sin(angle), math.cos(angle)
    asked = rays(features, torch.tensor([[[right, 0.0]], [[0.0, 0.0]]]), CAMERA)[:, 0]
    of_the_ray = [number for number in range(ray_numbers(0)) if number not in (11, 12)]  # all but where in the picture
    torch.testing.assert_close(asked[0, of_the_ray], asked[1, of_the_ray], atol=1e-4, rtol=1e-4)


def test_some_cells_are_cells_of_the_whole(light_field: LightField) -> None:
    _, features = moments(3)
    whole = light_field.over(light_field.behind(features, features), features)
    cells = torch.stack([torch.randperm(whole.shape[1])[:9] for _ in range(3)])
    part = light_field.over(light_field.behind(features, features, cells), features, cells)
    torch.testing.assert_close(part, whole.gather(1, cells[..., None].expand(-1, -1, whole.shape[2])))


def test_cells_are_patches_of_pictures(light_field: LightField) -> None:
    pictures = torch.rand(2, *FRAME, 3)
    assert torch.equal(to_pictures(to_cells(pictures), FRAME), pictures.permute(0, 3, 1, 2))
    _, features = moments(2)
    cells = light_field.over(light_field.behind(features, features), features)
    torch.testing.assert_close(light_field(features, features), to_pictures(cells, FRAME) * 2 - 1)


def test_the_hand_covers_by_its_opacity(light_field: LightField) -> None:
    _, features = moments(2)
    behind = torch.rand(2, FRAME[0] * FRAME[1] // CELL**2, 3 * CELL**2)
    write = light_field.hand.write
    kept = write.bias.clone()
    try:
        write.bias[3::4] = -100.0
        torch.testing.assert_close(light_field.over(behind, features), behind, atol=1e-5, rtol=0)
        write.bias[3::4] = 100.0
        torch.testing.assert_close(
            light_field.over(behind, features), light_field.over(1 - behind, features), atol=1e-5, rtol=0
        )
    finally:
        write.bias.copy_(kept)


def test_the_finish_adds_nothing_at_first_and_then_what_neighbours_tell(light_field: LightField) -> None:
    cells = torch.rand(2, FRAME[0] * FRAME[1] // CELL**2, 3 * CELL**2)
    assert (light_field.finish(cells, 8) == 0).all()
    write = light_field.finish.write
    torch.nn.init.normal_(write.weight, std=0.1)
    try:
        other = cells.clone()
        other[:, 0] += 1  # the upper left cell reaches three rows and columns of neighbours, and no further
        changed = (light_field.finish(other, 8) - light_field.finish(cells, 8)).abs().amax((0, 2)).unflatten(
            0, (8, 12)
        ) > 0
        assert changed[:4, :4].float().mean() > 0.9
        assert not changed[4:].any()
        assert not changed[:, 4:].any()
        _, features = moments(2)
        rough = light_field.over(light_field.behind(features, features), features)
        finished = to_pictures(rough + light_field.finish(rough, 8), FRAME) * 2 - 1
        torch.testing.assert_close(light_field(features, features), finished)
    finally:
        write.weight.zero_()


@pytest.mark.parametrize("name", NANO_MODELS)
def test_every_part_of_the_shipped_decoder_makes_the_picture_truer(name: str) -> None:
    """Its layers and its finish, each beside the picture without it: a part that has died shows nowhere else."""
    codec = load_nano_codec(Options(codec=nano_folder(name)))
    drawn = ArenaSource(77, *codec.config.frame).moments(48, "shipped", 0)
    truth = torch.from_numpy(drawn.frames).permute(0, 3, 1, 2) / 255.0
    features = torch.from_numpy(drawn.features)
    with torch.no_grad():
        state, draw = codec.state(features), codec.field
        court = draw.behind(features, state)
        rough = draw.over(court, state)
        stages = [court, rough, rough + draw.finish(rough, codec.config.frame[0] // CELL)]
        errors = [float((to_pictures(stage, codec.config.frame) - truth).square().mean()) for stage in stages]
    decibels = [-10 * math.log10(error) for error in errors]
    assert decibels[1] > decibels[0] + 3
    assert decibels[2] > decibels[1] + 0.2


@pytest.mark.parametrize("name", NANO_MODELS)
def test_the_shipped_hand_covers_what_weapon_and_hud_cover(name: str) -> None:
    codec = load_nano_codec(Options(codec=nano_folder(name)))
    drawn = ArenaSource(78, *codec.config.frame).moments(24, "shipped", 0)
    with torch.no_grad():
        covered = codec.field.covers(codec.state(torch.from_numpy(drawn.features)))
    differs = to_cells(torch.from_numpy(np.abs(drawn.frames.astype(int) - drawn.court) > 60)).any(-1)
    assert (covered & differs).sum() > 0.85 * differs.sum()
    assert covered.float().mean() < 0.6
