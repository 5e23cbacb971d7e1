"""`scope-play play` from the command line, with the network left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scope_play.actions import BUTTONS, ROW_WIDTH, write_actions
from scope_play.cli import main
from scope_play.play.app import App
from scope_play.recording.clip import frame_hash, read_clip
from tests.helpers.fake_world import FakeWorld


class Clock:
    """Time that goes on by a millisecond whenever it is looked at, but no further ahead of `world` than it takes to
    play a chunk: however slow the machine is, so long a game holds so many chunks."""

    def __init__(self, world: FakeWorld) -> None:
        self.world, self.passed, self.skipped = world, 0.0, 0.0

    def __call__(self) -> float:
        self.passed = min(self.passed + 0.001, 0.5 + 0.2 * self.world.steps_made)
        return self.passed + self.skipped


@pytest.fixture
def clock() -> Clock:
    return Clock(FakeWorld())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock) -> Callable[..., int]:
    """The command with a fake world behind it, settings and time of its own."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("scope_play.play.settings.settings_path", lambda: tmp_path / "config" / "settings.toml")
    monkeypatch.setattr("scope_play.play.engine.local.open_here", lambda request: clock.world)
    monkeypatch.setattr("scope_play.play.app.App", partial(App, clock=clock))
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


def test_the_seconds_of_a_demo_are_those_of_the_game(
    run: Callable[..., int], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*_: object, **load: object) -> FakeWorld:
        clock.skipped = 600.0
        return clock.world

    monkeypatch.setattr("scope_play.play.engine.local.open_here", slowly)
    assert run("play", "--demo", "--seconds", 1.5, "--record", tmp_path / "clips") == 0
    (clip,) = (tmp_path / "clips").iterdir()
    assert len(read_clip(clip).rows) > 4


def test_a_demo_that_cannot_begin_ends_with_a_sentence_and_code_1(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("play", "--demo", "--seconds", 600, "--image", tmp_path / "gone.png") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "gone.png" in line


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
    assert run("play", "--demo", "--seconds", 0.5, "--input", "responsive", "--window-size", "640x360") == 0
    assert load(path) == Settings(show_pad=False)
