"""`scope-play play` and `bench play` from the command line, with the network left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from fake_world import FakeWorld

from scope_play.actions import BUTTONS, ROW_WIDTH, write_actions
from scope_play.bench.play import press_delays
from scope_play.cli import main
from scope_play.play.clip import frame_hash, read_clip
from scope_play.play.messages import Made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command with a fake world behind it and settings of its own."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("scope_play.play.settings.settings_path", lambda: tmp_path / "config" / "settings.toml")
    monkeypatch.setattr("scope_play.commands.play.open_world", lambda model, steps: FakeWorld())
    return lambda *arguments: main([str(argument) for argument in arguments])


def random_rows(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    rows = rng.uniform(-1, 1, (count, ROW_WIDTH)).astype(np.float32)
    rows[:, : len(BUTTONS)] = rows[:, : len(BUTTONS)] > 0
    return rows


@pytest.mark.parametrize("count", [1, 5, 30, 33])
def test_headless_plays_a_file_into_a_clip(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    rows = random_rows(count)
    write_actions(tmp_path / "in.parquet", rows)
    code = run("play", "--headless", "--actions", tmp_path / "in.parquet", "--out", tmp_path / "out", "--seed", 4)
    assert code == 0
    clip = read_clip(Path(capsys.readouterr().out.strip()))
    chunks = max(1, -(-(count - 1) // 4))
    assert len(clip.rows) == 4 * chunks + 1
    shared = min(count, 4 * chunks)
    np.testing.assert_array_equal(clip.rows[:shared], rows[:shared])
    session = FakeWorld().start(seed=4)
    hashes = [frame_hash(session.first_frame)]
    for chunk in range(chunks):
        hashes += [frame_hash(frame) for frame in session.step(clip.rows[4 * chunk : 4 * chunk + 4]).frames]
    assert list(clip.columns.frame_hash) == hashes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--headless"], "--headless needs --actions"),
        (["--actions", "a.parquet"], "belong to --headless"),
        (["--window-size", "big"], "'big' is not WIDTHxHEIGHT"),
        (["--headless", "--actions", "missing.parquet", "--out", "out"], "missing.parquet"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_2(
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("play", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert words in error[0]
    assert not (tmp_path / "out").exists()


def test_demo_ends_by_itself_and_leaves_a_clip(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("play", "--demo", "--seconds", 1.5, "--record", tmp_path / "clips") == 0
    (clip,) = (tmp_path / "clips").iterdir()
    assert len(read_clip(clip).rows) > 4


def test_a_typo_in_the_settings_is_told_and_the_file_left_alone(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config" / "settings.toml"
    path.parent.mkdir(parents=True)
    path.write_text("fulscreen = true\n")
    assert run("play", "--demo", "--seconds", 0.3) == 0
    assert "did you mean 'fullscreen'" in capsys.readouterr().err
    assert path.read_text() == "fulscreen = true\n"


def test_options_of_one_run_are_not_stored(run: Callable[..., int], tmp_path: Path) -> None:
    from scope_play.play.settings import Settings, load, save

    path = tmp_path / "config" / "settings.toml"
    save(path, Settings(show_pad=False))
    assert run("play", "--demo", "--seconds", 0.5, "--mode", "responsive", "--window-size", "640x360") == 0
    assert load(path) == Settings(show_pad=False)


def test_bench_play_prints_and_writes_its_figures(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "play", "--seconds", 3, "--window-size", "640x360", "--json", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "input to frame p50/p95" in printed
    figures = json.loads((tmp_path / "play.json").read_text())
    assert figures["presses"] >= 2
    assert 0 < figures["delay_p50"] < 2
    assert figures["fps"] > 0
    assert figures["cores"] >= 1


def made(pressed: list[int], at: float) -> tuple[Any, float]:
    rows = np.zeros((4, ROW_WIDTH), np.float32)
    rows[pressed, BUTTONS.index("south")] = 1
    return Made(1, np.zeros((4, 2, 2, 3), np.uint8), rows, None, {}, at, at, 0.1), at


def test_each_press_is_matched_with_the_first_frame_that_knows_it() -> None:
    chunks = [made([], 1.0), made([1, 2], 1.2), made([3], 1.4), made([0, 2], 1.6), made([], 1.8)]
    # Pressed at 1.05 (rows 1-2 of chunk 2), at 1.3 (row 3 of chunk 3, held into chunk 4) and at 1.45 (its row 2).
    assert press_delays([1.05, 1.3, 1.45], chunks) == pytest.approx([0.15, 0.1, 0.15])
