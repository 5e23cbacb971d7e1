"""The rules: who moves where, what a button does, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.actions import COLUMNS
from scope_play.arena.behaviour import sample_rows, sample_states
from scope_play.arena.config import CANNON, RIFLE, ArenaConfig
from scope_play.arena.light import _outside_distance
from scope_play.arena.simulate import Simulator
from scope_play.errors import ScopeError

CONFIG = ArenaConfig()
RULES = CONFIG.rules


def simulator(batch: int = 1, seed: int = 0, *, varied: bool = False) -> Simulator:
    return Simulator([seed + i for i in range(batch)], CONFIG, varied)


def row(**controls: float) -> np.ndarray:
    values = np.zeros((1, len(COLUMNS)), np.float32)
    for name, value in controls.items():
        values[0, COLUMNS.index(name)] = value
    return values


def in_the_open(sim: Simulator, *, x: float = 3.0, y: float = 4.4, yaw: float = -math.pi / 2) -> None:
    """A place with free floor around, looking north over the wall's middle."""
    sim.state["x"], sim.state["y"], sim.state["yaw"] = x, y, yaw % (2 * math.pi)


def hold(sim: Simulator, frames: int, **controls: float) -> list[np.ndarray]:
    states = []
    for _ in range(frames):
        sim.step(row(**controls))
        states.append(sim.state[0].copy())
    return states


def test_same_seed_same_game() -> None:
    rows = sample_rows(3, 60, 11)
    assert np.array_equal(rows, sample_rows(3, 60, 11))
    assert not np.array_equal(rows, sample_rows(3, 60, 12))


@pytest.mark.parametrize("batch", [1, 3, 8, 13])
def test_an_environment_is_the_same_in_every_batch(batch: int) -> None:
    states, rows = sample_states(batch, 80, 20)
    for i in {0, batch // 2, batch - 1}:
        alone, rows_alone = sample_states(1, 80, 20 + i)
        assert np.array_equal(states[:, i], alone[:, 0])
        assert np.array_equal(rows[:, i], rows_alone[:, 0])


def test_nobody_leaves_the_map_in_a_million_random_steps() -> None:
    batch, steps = 2000, 500
    sim = simulator(batch, varied=True)
    rng = np.random.default_rng(5)
    margin = RULES.body_radius - 1e-6
    sticks = rng.uniform(-1, 1, (batch, 4))
    for step in range(steps):
        if step % 10 == 0:
            changed = rng.random(batch) < 0.5
            sticks[changed] = rng.choice([-1.0, 1.0, 0.3], (int(changed.sum()), 4))
        buttons = rng.random((batch, 6)) < 0.3
        sim.step(np.concatenate([buttons, sticks], 1).astype(np.float32))
        x, y = sim.state["x"], sim.state["y"]
        assert margin <= min(x.min(), y.min())
        assert max(x.max(), y.max()) <= CONFIG.map.size - margin
        assert abs(sim.state["pitch"]).max() <= RULES.pitch_limit + 1e-9
        for solid in CONFIG.map.obstacles():
            assert _outside_distance(x, y, solid).min() >= margin
    for name in sim.state.dtype.names:
        assert np.isfinite(sim.state[name]).all(), name


@given(
    yaw=st.floats(0, 6.28),
    left=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    right=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
@settings(max_examples=60, deadline=None)
def test_speeds_stay_within_the_limits(yaw: float, left: tuple[float, float], right: tuple[float, float]) -> None:
    sim = simulator()
    in_the_open(sim, yaw=yaw)
    before = sim.state[0].copy()
    after = hold(sim, 1, left_x=left[0], left_y=left[1], right_x=right[0], right_y=right[1])[0]
    turned = (after["yaw"] - before["yaw"] + math.pi) % (2 * math.pi) - math.pi
    assert turned == pytest.approx(right[0] * RULES.turn_rate, abs=1e-7)
    assert math.hypot(after["x"] - before["x"], after["y"] - before["y"]) <= RULES.walk_speed + 1e-9


def test_signs_of_the_sticks() -> None:
    def moved(**controls: float) -> tuple[float, float, float, float]:
        sim = simulator()
        in_the_open(sim, yaw=0.0)  # looking along +x, so right is +y
        before = sim.state[0].copy()
        after = hold(sim, 6, **controls)[-1]
        return tuple(float(after[name] - before[name]) for name in ("x", "y", "yaw", "pitch"))  # type: ignore[return-value]

    ahead, sideways, turned, _ = moved(left_y=-1.0)
    assert ahead > 0.3
    assert abs(sideways) + abs(turned) < 1e-9
    assert moved(left_y=1.0)[0] < -0.3
    assert moved(left_x=1.0)[1] > 0.3
    assert moved(right_x=1.0)[2] == pytest.approx(6 * RULES.turn_rate)
    assert moved(right_y=1.0)[3] == pytest.approx(-6 * RULES.pitch_rate)
    assert moved(right_y=-1.0)[3] > 0


def test_sticks_are_analogue() -> None:
    steps = []
    for push in (0.25, 0.5, 1.0):
        sim = simulator()
        in_the_open(sim)
        states = hold(sim, 12, left_y=-push)
        steps.append(math.hypot(states[-1]["x"] - states[-2]["x"], states[-1]["y"] - states[-2]["y"]))
    assert steps == pytest.approx([0.25 * RULES.walk_speed, 0.5 * RULES.walk_speed, RULES.walk_speed], rel=0.01)


WORLD_FIELDS = ("x", "y", "z", "yaw", "pitch", "vx", "vy", "vz", "land")


@pytest.mark.parametrize(
    ("control", "changes"),
    [
        ({}, set()),
        ({"right_trigger": 1}, {"ammo", "kick", "flash", "spark", "cooldown"}),
        ({"left_trigger": 1}, {"aim"}),
        ({"south": 1}, {"z", "vz"}),
        ({"right_thumb": 1}, {"melee"}),
        ({"west": 1}, {"reload"}),
        ({"north": 1}, {"switch", "north_held"}),
        ({"left_y": -1}, {"y", "vy", "x", "vx", "stride", "step_phase"}),
        ({"right_x": 1}, {"yaw", "sway_x"}),
        ({"right_y": 1}, {"pitch", "sway_y"}),
    ],
)
def test_each_control_changes_its_part_of_the_state_and_nothing_else(
    control: dict[str, float], changes: set[str]
) -> None:
    sim = simulator()
    in_the_open(sim)
    sim.state["ammo"] = 4.0
    before = sim.state.copy()
    hold(sim, 1, **control)
    changed = {name for name in before.dtype.names if not np.array_equal(before[name], sim.state[name])}
    assert changed <= changes
    assert len(changed) >= min(1, len(changes))


def test_jump_reaches_its_height_lands_and_dips() -> None:
    sim = simulator()
    in_the_open(sim)
    heights = [float(hold(sim, 1, south=1.0)[0]["z"])]
    heights += [float(state["z"]) for state in hold(sim, 30)]
    assert max(heights) == pytest.approx(RULES.jump_height, rel=0.03)
    landed = next(i for i, height in enumerate(heights) if i > 0 and height == 0.0)
    assert landed + 1 == pytest.approx(RULES.jump_frames, abs=1)
    assert set(heights[landed:]) == {0.0}


def test_the_rifle_fires_on_and_the_cannon_slowly_until_empty() -> None:
    for weapon in (RIFLE, CANNON):
        sim = simulator()
        in_the_open(sim)
        sim.state["weapon"] = weapon
        ammo = [float(state["ammo"][weapon]) for state in hold(sim, 120, right_trigger=1.0)]
        shots = np.flatnonzero(np.diff([RULES.magazine[weapon], *ammo]))
        assert np.diff(shots).min() == np.diff(shots).max() == RULES.fire_frames[weapon]
        assert len(shots) == RULES.magazine[weapon]
        empty = hold(sim, 1, right_trigger=1.0)[0]
        assert empty["ammo"][weapon] == 0
        assert empty["flash"] == 0


def test_reload_fills_the_magazine_at_its_end_and_blocks_fire() -> None:
    sim = simulator()
    in_the_open(sim)
    sim.state["ammo"][:, RIFLE] = 3
    states = hold(sim, 1, west=1.0) + hold(sim, int(RULES.reload_frames), right_trigger=1.0)
    ammo = [float(state["ammo"][RIFLE]) for state in states]
    full = ammo.index(RULES.magazine[RIFLE] - 1)  # the frame that fills it fires at once
    assert full == RULES.reload_frames
    assert set(ammo[:full]) == {3.0}


def test_reload_with_a_full_magazine_does_nothing() -> None:
    sim = simulator()
    in_the_open(sim)
    assert hold(sim, 1, west=1.0)[0]["reload"] == 0


def test_switch_acts_on_the_press_only_and_each_weapon_keeps_its_ammunition() -> None:
    sim = simulator()
    in_the_open(sim)
    hold(sim, 4, right_trigger=1.0)
    left = float(sim.state["ammo"][0, RIFLE])
    weapons = [int(state["weapon"]) for state in hold(sim, 40, north=1.0)]
    assert weapons[-1] == CANNON
    assert np.abs(np.diff(weapons)).sum() == 1
    hold(sim, 2)
    hold(sim, 12, north=1.0)
    assert sim.state["weapon"][0] == RIFLE
    assert sim.state["ammo"][0, RIFLE] == left < RULES.magazine[RIFLE]


def test_a_hit_target_falls_and_rises_again() -> None:
    sim = simulator()
    tx, ty = CONFIG.map.targets[-1]
    in_the_open(sim, x=tx - 1.5, y=ty, yaw=0.0)
    hold(sim, 1, right_trigger=1.0)
    assert sim.state["hits"][0] == 1
    assert (sim.state["target"][0] > 0).sum() == 1
    span = int(RULES.target_fall + RULES.target_down + RULES.target_rise)
    hold(sim, span)
    assert (sim.state["target"][0] == 0).all()


def test_melee_fells_a_near_target_only() -> None:
    tx, ty = CONFIG.map.targets[-1]
    for distance, hits in ((1.0, 1), (2.0, 0)):
        sim = simulator()
        in_the_open(sim, x=tx - distance, y=ty, yaw=0.0)
        hold(sim, 1, right_thumb=1.0)
        assert sim.state["hits"][0] == hits


def test_a_standing_target_stops_a_walker_and_a_fallen_one_does_not() -> None:
    tx, ty = CONFIG.map.targets[-1]
    for timer, passes in ((0.0, False), (60.0, True)):
        sim = simulator()
        in_the_open(sim, x=tx - 0.8, y=ty, yaw=0.0)
        sim.state["target"][0, -1 - (8 - len(CONFIG.map.targets))] = timer
        hold(sim, 14, left_y=-1.0)
        assert (sim.state["x"][0] > tx - 0.3) == passes


def test_aiming_slows_the_turn() -> None:
    sim = simulator()
    in_the_open(sim)
    hold(sim, 10, left_trigger=1.0)
    assert sim.state["aim"][0] == pytest.approx(1.0)
    before = float(sim.state["yaw"][0])
    hold(sim, 1, left_trigger=1.0, right_x=1.0)
    assert sim.state["yaw"][0] - before == pytest.approx(RULES.turn_rate * RULES.aim_turn)


def test_wrong_rows_are_refused_with_both_shapes() -> None:
    with pytest.raises(ScopeError, match=r"\(3, 10\).*\(2, 10\)"):
        simulator(2).step(np.zeros((3, 10), np.float32))
