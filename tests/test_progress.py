"""Stage bars: one bar a stage, amounts in the right unit, and lines where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from scope_play.progress import StageBars


def draw(*events: tuple[str, int, int], terminal: bool = True) -> str:
    text = io.StringIO()
    with StageBars(Console(file=text, force_terminal=terminal, width=100, color_system=None)) as bars:
        for event in events:
            bars(*event)
    return text.getvalue()


def test_each_stage_has_a_bar_with_its_unit() -> None:
    out = draw(("transformer", 0, 15_678_000_000), ("transformer", 7_800_000_000, 15_678_000_000), ("steps", 12, 30))
    assert "7.8/15.7 GB" in out
    assert "12/30" in out
    assert draw(("autoencoder", 5_000_000, 20_000_000)).count("5.0/20.0 MB")


def test_the_same_stage_of_the_next_clip_is_a_new_bar() -> None:
    out = draw(("steps", 1, 2), ("steps", 2, 2), ("steps", 1, 2))
    last = out[out.rindex("2/2") :]
    assert "1/2" in last


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    text, now = io.StringIO(), iter(range(0, 1000, 20))
    with StageBars(Console(file=text, force_terminal=False, width=100), clock=lambda: float(next(now))) as bars:
        for step in range(7):
            bars("steps", step, 6)
    lines = text.getvalue().strip().splitlines()
    assert lines == ["steps 0/6", "steps 2/6, about 2 min left", "steps 4/6, about 50 s left", "steps 6/6"]
