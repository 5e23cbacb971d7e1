"""The picture: what each control shows, the mask, and the two renderers against each other."""

from __future__ import annotations

import numpy as np
import pytest

from scope_play.arena.arena import Arena
from scope_play.arena.behaviour import sample_clip, sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer

CONFIG = ArenaConfig()


def arena(batch: int = 1, *, height: int = 96, width: int = 160) -> Arena:
    made = Arena(batch, 0, CONFIG, height, width, varied=False, threads=1)
    made.state["x"], made.state["y"], made.state["yaw"], made.state["pitch"] = 3.0, 4.4, 4.6, 0.0
    return made


WEAPON_STATES: list[dict[str, float]] = [
    {"weapon": 1}, {"ammo": 3}, {"kick": 0.8}, {"flash": 2, "spark": 2.0}, {"reload": 12}, {"melee": 5}, {"switch": 5},
    {"sway_x": 0.7}, {"stride": 1.0, "step_phase": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("aim", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("change", WEAPON_STATES, ids=lambda change: next(iter(change)))
def test_weapon_state_shows_inside_the_mask_and_nowhere_else(change: dict[str, float], aim: float) -> None:
    plain, changed = arena(), arena()
    plain.state["aim"] = changed.state["aim"] = aim
    for name, value in change.items():
        changed.state[name] = value
    mask = plain.mask() | changed.mask()
    differs = (plain.render() != changed.render()).any(-1)
    assert not (differs & ~mask).any()
    assert differs.sum() > 15
    assert 0.02 < mask.mean() < 0.45


def test_place_and_heading_show_outside_the_mask() -> None:
    outside = ~arena().mask()
    still = arena().render()
    for change in ({"x": 3.1}, {"yaw": 4.65}, {"pitch": 0.02}, {"z": 0.1}, {"land": 3.0}, {"aim": 0.5}):
        moved = arena()
        for name, value in change.items():
            moved.state[name] = value
        assert (still != moved.render()).any(-1)[outside].mean() > 0.1, change


def test_turning_right_moves_the_picture_left_and_looking_up_moves_it_down() -> None:
    """The best shift between two pictures has the right sign and size."""
    before, turned, raised = arena(), arena(), arena()
    turned.state["yaw"] += 0.045
    raised.state["pitch"] += 0.03
    a, b, c = (made.render()[0, :60].astype(float).mean(-1) for made in (before, turned, raised))
    shifts = list(range(-8, 9))
    flat = [np.abs(a[:, 20:-20] - b[:, 20 + s : 140 + s]).mean() for s in shifts]
    tall = [np.abs(a[12:-12] - c[12 + s : 48 + s]).mean() for s in shifts]
    focal = 96 * 0.5 / CONFIG.look.half_view
    assert shifts[int(np.argmin(flat))] == pytest.approx(-0.045 * focal, abs=1.5)
    assert shifts[int(np.argmin(tall))] == pytest.approx(0.03 * focal, abs=1.5)


def test_aiming_zooms() -> None:
    """A far tower grows by the zoom behind the scope."""
    far, near = arena(), arena()
    for made in (far, near):
        made.state["x"], made.state["y"], made.state["yaw"] = 3.4, 4.0, 1.5708
    near.state["aim"] = 1.0
    builder = Renderer(CONFIG, 96, 160).builder
    middle, zoomed = (builder.build(made.state).camera[0] for made in (far, near))
    assert zoomed[5] / middle[5] == pytest.approx(CONFIG.rules.zoom)
    assert (far.render() != near.render()).mean() > 0.5


def test_an_environment_looks_the_same_in_every_batch() -> None:
    together = sample_clip(5, 12, 40, masks=True, threads=2)
    alone = sample_clip(1, 12, 43, masks=True, threads=1)
    assert np.array_equal(together.frames[3], alone.frames[0])
    assert np.array_equal(together.rows[3], alone.rows[0])
    assert together.masks is not None
    assert alone.masks is not None
    assert np.array_equal(together.masks[3], alone.masks[0])


def test_row_i_takes_frame_i_to_frame_i_plus_1() -> None:
    clip = sample_clip(1, 20, 9)
    played = Arena(1, 9)
    for i in range(20):
        assert np.array_equal(clip.frames[0, i], played.render()[0])
        played.step(clip.rows[:, i])


def test_state_is_a_snapshot() -> None:
    made = Arena(2, 3)
    before, rows = made.state.copy(), np.full((2, 10), 0.5, np.float32)
    made.step(rows)
    after = made.render()
    made.state = before
    made.step(rows)
    assert np.array_equal(made.render(), after)


def test_a_larger_picture_shrunk_is_the_small_one() -> None:
    small = arena().render()[0].astype(float)
    large = arena(height=192, width=320).render()[0].astype(float)
    shrunk = large.reshape(96, 2, 160, 2, 3).mean((1, 3))
    off = np.abs(shrunk - small).mean()
    assert off < 1.5
    assert off < 0.3 * np.abs(shrunk[:, 1:] - small[:, :-1]).mean()


def test_a_wider_picture_shows_more_at_its_sides() -> None:
    narrow, wide = arena(), arena(width=176)
    inside = ~(narrow.mask() | wide.mask()[:, :, 8:-8])  # the HUD keeps to the corners
    assert np.array_equal(narrow.render()[inside], wide.render()[:, :, 8:-8][inside])


def test_no_picture_depends_on_what_memory_held_before() -> None:
    renderer = Renderer(CONFIG, 96, 160, 1)
    state = sample_states(8, 60, 5)[0][-1]
    first = renderer.render(state)[0]
    spans = 3 * len(renderer.builder.still) + 4
    for _ in range(30):
        held = [np.full((spans, 14), np.nan, np.float32) for _ in range(64)]  # as large as what a strip works in
        del held
        assert np.array_equal(renderer.render(state)[0], first)
