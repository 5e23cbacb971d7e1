"""`bench play` and `bench soak` with the network left out, and how presses are matched with frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import numpy as np
import pytest

from scope_play.actions import BUTTONS, ROW_WIDTH
from scope_play.bench.hands import Hand, Press, jumping
from scope_play.bench.presses import LOST_AFTER, Answers
from scope_play.bench.soak import Line, check_clip, memory_slope
from scope_play.bench.virtual_pad import VirtualPad
from scope_play.cli import main
from scope_play.recording.clip import ACTIONS, read_clip
from tests.helpers.fake_world import FakeWorld


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("scope_play.play.engine.local.open_here", lambda request: FakeWorld())
    monkeypatch.setattr("scope_play.world.open_like", lambda header: FakeWorld())
    return lambda *arguments: main([str(argument) for argument in arguments])


def test_bench_play_presses_the_pad_and_writes_its_figures(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "play", "--seconds", 3, "--window-size", "640x360", "--json", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "input to frame p50/p95" in printed
    figures = json.loads((tmp_path / "play.json").read_text())
    assert figures["presses"] >= 2
    assert figures["lost"] == figures["invented"] == 0
    assert 0 < figures["delay_p50"] <= figures["own_delay_p50"] < 2
    assert figures["fps"] > 0
    assert figures["cores"] >= 1


def test_soak_writes_a_line_a_stretch_and_checks_the_clip(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--minutes", 0.1, "--every", 1.5, "--window-size", "640x360", "--seed", 3)
    assert run("bench", "soak", *options, "--out", tmp_path / "soak.jsonl", "--record", tmp_path / "clips") == 0
    machine, *lines, last = map(json.loads, (tmp_path / "soak.jsonl").read_text().splitlines())
    assert machine["machine"]["cores"] >= 1
    assert len(lines) == 4
    assert lines[-1]["minute"] == pytest.approx(0.1, abs=0.02)
    assert all(line["rss_mb"] > 0 and line["frames"] > 0 and line["recorder"] == "recording" for line in lines)
    assert sum(line["presses"] for line in lines) > 0
    assert lines[-1]["lost"] == lines[-1]["invented"] == 0
    check = last["check"]
    assert check["problem"] == ""
    assert check["frames"] == check["rows"] == check["hashes"] == check["video_frames"] == check["replayed"]
    assert check["frames"] > lines[-1]["recorded"] - 8
    clip = read_clip(tmp_path / "clips" / check["clip"])
    assert clip.metadata.header.input.pad_name
    assert clip.metadata.header.input.pad_guid != "keyboard"
    assert clip.rows.any()
    assert "all agree" in capsys.readouterr().out


def test_a_clip_that_does_not_replay_is_named(run: Callable[..., int], tmp_path: Path) -> None:
    from scope_play.actions import read_actions
    from scope_play.recording.clip import write_columns

    options = ("--minutes", 0.03, "--window-size", "640x360", "--out", tmp_path / "soak.jsonl")
    assert run("bench", "soak", *options, "--record", tmp_path) == 0
    (path,) = (found for found in tmp_path.iterdir() if (found / ACTIONS).exists())
    clip = read_clip(path)
    rows = read_actions(path / ACTIONS)
    rows[5, 0] = 1 - rows[5, 0]
    write_columns(path / ACTIONS, rows, clip.columns)
    assert check_clip(path, 2.0).problem == "frame 6 is not as recorded"
    (path / ACTIONS).unlink()
    assert ACTIONS in check_clip(path, 2.0).problem


def pressed(*rows: int) -> np.ndarray:
    chunk = np.zeros((4, ROW_WIDTH), np.float32)
    chunk[list(rows), BUTTONS.index("south")] = 1
    return chunk


def test_each_press_is_matched_with_the_frames_that_answer_it() -> None:
    answers, at = Answers(("south",)), 1.0
    # Pressed at 1.05 (rows 1-2 of chunk 2), at 1.3 (row 3 of chunk 3, held into chunk 4) and at 1.45 (its row 2).
    presses = {1.2: [1.05], 1.4: [1.3], 1.6: [1.45]}
    for rows in (pressed(), pressed(1, 2), pressed(3), pressed(0, 2), pressed()):
        answers.press(Press(moment, "south") for moment in presses.get(round(at, 3), []))
        for part in range(4):
            answers.frame(rows, part, at + 0.05 * part)
        at += 0.2
    assert answers.first == pytest.approx([0.15, 0.1, 0.15])
    assert answers.own == pytest.approx([0.2, 0.25, 0.25])
    assert (answers.lost, answers.invented) == (0, 0)


def test_a_press_no_row_shows_is_lost_and_a_row_without_press_invented() -> None:
    answers = Answers(("south",))
    answers.press([Press(0.0, "south")])
    for _ in range(LOST_AFTER + 1):
        answers.frame(pressed(), 0, 1.0)
    assert answers.lost == 1
    answers.frame(pressed(1), 0, 2.0)
    assert answers.invented == 1
    assert answers.first == []


def test_a_hand_holds_a_button_until_the_app_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pad:
        def __init__(self) -> None:
            self.states: SimpleQueue[bool] = SimpleQueue()

        def set_button(self, button: str, pressed: bool) -> None:
            self.states.put(pressed)

    monkeypatch.setattr("scope_play.bench.hands.PRESS_EVERY", (0.0, 0.0))
    monkeypatch.setattr("scope_play.bench.hands.PRESS_SECONDS", 0.0)
    pad = Pad()
    hand = Hand(cast(VirtualPad, pad), islice(jumping(), 2))
    hand.start()
    assert pad.states.get(timeout=10)
    hand.looked()
    hand.join(0.05)
    assert hand.is_alive()
    assert pad.states.empty()
    hand.looked()
    assert pad.states.get(timeout=10) is False
    hand.join(10)
    assert [press.column for press in hand.presses] == ["south"]


def line(minute: float, rss: float) -> Line:
    return Line(minute, rss, 1200, 20.0, "real time", 51.0, 1, 1, 1, 1, 1, 1, 0, 0, 0.1, 0.5, "recording", 1)


def test_memory_that_grows_late_is_seen() -> None:
    assert memory_slope([line(1, 500.0)]) is None
    assert memory_slope([line(minute, 500.0 + min(minute, 10)) for minute in range(40)]) == 0.0
    assert memory_slope([line(minute, 500.0 + 0.5 * minute) for minute in range(40)]) == 0.5
