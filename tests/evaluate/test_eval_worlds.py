"""The whole evaluation on worlds whose quality is known: the simulator itself, and one that never moves."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scope_play.actions import BUTTONS
from scope_play.arena.config import ArenaConfig
from scope_play.arena.world import ArenaWorld
from scope_play.commands import eval as command
from scope_play.errors import ScopeError
from scope_play.evaluate.evaluate import EvalConfig, Evaluation
from scope_play.evaluate.labels import label
from scope_play.evaluate.probe import FILE, Probe, load_probe, save_probe
from scope_play.evaluate.rows import Row
from scope_play.evaluate.train_probe import ProbeRecipe, train_probe
from scope_play.evaluate.trials import FIRST_SEED, SEALED_SEED, Trials, quiet, script, walks_freely

CONFIG = EvalConfig(
    seeds=(FIRST_SEED, FIRST_SEED + 1), long_seeds=2, seconds=4.0, mixed_seconds=4.0, still_seconds=1.0, scripted=2
)


class GarbageSession:
    """Noise, and nothing of what it was given."""

    def __init__(self, image: np.ndarray) -> None:
        self.shape, self.draw = image.shape, np.random.default_rng(0)

    def step(self, actions: np.ndarray) -> Any:
        frames = self.draw.integers(0, 256, (len(actions), *self.shape), np.uint8)
        return argparse.Namespace(frames=frames)

    def __enter__(self) -> GarbageSession:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class FrozenSession:
    """Repeats its first frame."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def step(self, actions: np.ndarray) -> Any:
        frames = np.repeat(self.image[None], len(actions), 0)
        return argparse.Namespace(frames=frames)

    def __enter__(self) -> FrozenSession:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class FrozenWorld(ArenaWorld):
    def start(self, image: Any = None, prompt: str | None = None, seed: int = 0) -> Any:
        return FrozenSession(image)


class GarbageWorld(ArenaWorld):
    def start(self, image: Any = None, prompt: str | None = None, seed: int = 0) -> Any:
        return GarbageSession(image)


def by_name(rows: list[Row]) -> dict[tuple[str, str], Row]:
    return {(row.group, row.name): row for row in rows}


@dataclass(frozen=True)
class Evaluated:
    """What the command left of the simulator's own evaluation: its folder, what it printed, and the figures."""

    out: Path
    printed: str
    figures: dict[str, Any]
    rows: dict[tuple[str, str], Row]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    out, printed = tmp_path_factory.mktemp("oracle"), io.StringIO()
    parser = argparse.ArgumentParser()
    command.configure(parser)
    words = ["--model", "arena", "--quick", "--seconds", str(CONFIG.seconds), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        shorter = partial(
            EvalConfig, CONFIG.seeds * 4, mixed_seconds=CONFIG.mixed_seconds, still_seconds=CONFIG.still_seconds
        )
        patch.setattr("scope_play.evaluate.evaluate.EvalConfig", shorter)
        assert command.run(parser.parse_args(words)) == 0
    figures = json.loads((out / "eval.json").read_text())
    return Evaluated(out, printed.getvalue(), figures, by_name([Row(**row) for row in figures["rows"]]))


@pytest.fixture(scope="module")
def frozen() -> dict[tuple[str, str], Row]:
    return by_name(Evaluation(FrozenWorld(96, 160, varied=True), CONFIG).run())


def test_the_simulator_scores_as_the_truth(oracle: Evaluated) -> None:
    rows = oracle.rows
    for (group, name), row in rows.items():
        if row.truth is not None:
            assert row.world == pytest.approx(row.truth), (group, name)
        if group.startswith("PSNR"):
            assert row.world == 60.0
            assert row.copy is not None
            assert row.copy < 40
        if group.startswith("feature distance"):
            assert row.world == 0.0
            assert (row.copy or 0.0) > 0.0
        if name.endswith("selectivity"):
            assert row.world == 1.0
    assert rows["gain", "yaw, by heading"].world == pytest.approx(1.0, abs=0.15)
    assert all(row.met is not False for row in rows.values())
    assert rows["gain", "yaw, share of turns to the right side"].world == 1.0


def test_a_world_that_never_moves_fails(frozen: dict[tuple[str, str], Row]) -> None:
    assert abs(frozen["gain", "yaw, by heading"].world or 0.0) < 0.1
    assert abs(frozen["movement", "walking speed, share of true"].world or 0.0) < 0.1
    assert abs(frozen["movement", "jump height, share of true"].world or 0.0) < 0.3
    assert (frozen["stick R2", "right_x"].world or 0.0) < 0.2
    assert frozen["in-scope", "fire: strength"].world == 0.0
    assert frozen["in-scope", "fire: selectivity"].world is None
    assert frozen["standing still", "PSNR to start after 1 s, dB"].world == 60.0
    missed = [row for row in frozen.values() if row.met is False]
    assert len(missed) >= 5
    for row in frozen.values():
        if row.group.startswith("PSNR"):
            assert row.world == row.copy


def test_a_frozen_and_a_garbage_world_fail_the_drift_line(frozen: dict[tuple[str, str], Row]) -> None:
    line = ("drift, multiple of true play's", "at 4 s")
    evaluation = Evaluation(GarbageWorld(96, 160, varied=True), CONFIG)
    for row in (frozen[line], by_name(evaluation.long())[line]):
        assert row.met is False
        assert row.interval is not None
        assert row.interval[0] > 1.5


def test_every_figure_has_an_interval_around_it(oracle: Evaluated) -> None:
    for name, row in oracle.rows.items():
        if row.world is not None:
            assert row.interval is not None, name
            assert row.interval[0] - 1e-9 <= row.world <= row.interval[1] + 1e-9, name
    assert " to " in oracle.printed


def test_sealed_starts_are_not_those_of_development() -> None:
    rows = script(16, left_y=-1.0)
    sealed = Trials(96, 160, first_seed=SEALED_SEED).starts(3, [rows], quiet)
    assert min(sealed) >= SEALED_SEED
    assert not set(sealed) & set(Trials(96, 160).starts(30, [rows], quiet))
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(ScopeError, match="leave out --seeds"):
        command.run(parser.parse_args(["--sealed", "--quick"]))


def test_sheets_and_videos_are_written(oracle: Evaluated) -> None:
    import av

    out = oracle.out
    sheets = {path.name for path in out.glob("*.png")}
    assert {"mixed.png", "still.png", "walk.png", "jump.png", "turn_right.png", "long.png"} <= sheets
    with av.open(str(out / "pairs" / "jump.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == 33
    assert (out / "pairs" / "fire.png").stat().st_size > 1000


def test_only_what_can_be_seen_is_labelled() -> None:
    trials = Trials(96, 160)
    rows = np.stack([script(40, west=1.0, right_y=-1.0)] * 2)
    states = trials.simulate([1, 2], rows)
    states["ammo"] = trials.config.rules.magazine
    full = trials.simulate([1, 2], rows)
    labels = label(full, rows.swapaxes(0, 1), ArenaConfig())
    reloading = labels.activity[..., BUTTONS.index("west")]
    assert np.array_equal(reloading, (full["reload"][:-1] > 0).T)
    assert not labels.visible[:, -1, 3].any()  # the pitch has reached its limit by then
    assert labels.visible[:, 0, 3].all()


def test_scripted_starts_fulfil_their_condition() -> None:
    trials = Trials(96, 160)
    rows = script(32, left_y=-1.0)
    seeds = trials.starts(5, [rows], walks_freely(1.9))
    states = trials.simulate(seeds, np.stack([rows] * 5))
    assert (np.hypot(states["x"][-1] - states["x"][0], states["y"][-1] - states["y"][0]) >= 1.9).all()
    with pytest.raises(ScopeError, match="only 0 of 2 starts"):
        trials.starts(2, [script(4)], walks_freely(3.0))
    assert len(trials.starts(3, [rows], quiet)) == 3


def test_the_shipped_probe_knows_the_arena() -> None:
    """Its card says how well; here on clips of yet other seeds."""
    from scope_play.evaluate.train_probe import held_out_scores

    probe, card = load_probe()
    scores = held_out_scores(probe, replace(ProbeRecipe(), held_out=200, held_out_seed=530_000_000))
    claimed = card["held_out"]
    assert scores["r2"]["right_x"] > claimed["r2"]["right_x"] - 0.1
    assert scores["f1"]["left_trigger"] > claimed["f1"]["left_trigger"] - 0.1


def test_a_probe_is_taught_saved_and_loaded(tmp_path: Path) -> None:
    recipe = ProbeRecipe(windows=2, held_out=2, frames=6, batch=4)
    probe, card = train_probe(0.01, recipe)
    save_probe(tmp_path, probe, card)
    again, read = load_probe(tmp_path)
    assert read["recipe"] == {**recipe.__dict__, "minutes": 0.01, "steps": card["recipe"]["steps"]}
    frames = np.random.default_rng(0).integers(0, 255, (1, 6, 96, 160, 3), np.uint8)
    assert np.abs(again.read(frames).sticks - probe.read(frames).sticks).max() < 0.02
    assert again.read(frames).pose.shape == (1, 6, 6)
    assert (tmp_path / FILE).stat().st_size < 1_500_000
    with pytest.raises(ScopeError, match="no readable probe"):
        load_probe(tmp_path / "nowhere")


def test_a_probe_reads_larger_pictures_too() -> None:
    probe = Probe()
    small = np.random.default_rng(0).integers(0, 255, (1, 96, 160, 3), np.uint8)
    large = small.repeat(3, 1).repeat(3, 2)
    assert np.allclose(probe.shrink(small), probe.shrink(large), atol=1e-5)


def test_the_command_prints_and_writes(oracle: Evaluated) -> None:
    assert "button F1" in oracle.printed
    assert "button F1" in (oracle.out / "eval.txt").read_text()
    figures = oracle.figures
    assert figures["world"]["name"] == "arena"
    assert figures["config"]["seeds"] == list(CONFIG.seeds)
    assert (figures["config"]["scripted"], figures["config"]["seconds"]) == (3, CONFIG.seconds)
    assert {row["group"] for row in figures["rows"]} >= {"button F1", "stick R2", "gain", "movement", "in-scope"}
