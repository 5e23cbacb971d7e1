"""`scope-play bench play`: the app as it is, played by a virtual pad, with HUD and recording on.

Input-to-frame delay runs from the moment the pad's button goes down to the moment a frame is on screen: the first one
made in knowledge of the press, and the one that the press's own row leads to. Presses come at random moments, so both
include the wait for the loop's next look at the pad and for the next sampling.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.bench.report import RESULTS, write_result
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.bench.virtual_pad import VirtualPad
    from scope_play.play.app import App
    from scope_play.play.playback import Shot

WARM_UP_SECONDS = 2.0
SHORTEST = 3.0


@dataclass(frozen=True)
class Figures:
    """What is reported: seconds, frames a second, and shares of one core."""

    model: str
    trained: bool
    window: str
    driver: str
    mode: str
    seconds: float
    fps: float
    speed: str
    frame_gap_p50: float
    frame_gap_p99: float
    chunk_p50: float
    chunk_p95: float
    chunk_p99: float
    delay_p50: float
    delay_p95: float
    own_delay_p50: float
    own_delay_p95: float
    presses: int
    lost: int
    invented: int
    loop_share: float
    recorder_share: float | None
    model_share: float | None
    process_share: float
    cores: int


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--seconds", type=float, default=30.0)
    add("--steps", type=int, help="denoising passes a chunk")
    add("--mode", choices=("exact", "responsive"), default="exact")
    add("--window-size", default="1280x720", metavar="WxH")
    add("--json", type=Path, nargs="?", const=RESULTS, metavar="FOLDER", help="also write play.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from scope_play.bench.session import playing

    if args.seconds < SHORTEST:
        raise ScopeError(f"--seconds {args.seconds} is too short to measure; give at least {SHORTEST:.0f}.")
    with (
        tempfile.TemporaryDirectory(prefix="scope-play-bench-") as folder,
        playing(args.model, args.steps, args.mode, args.window_size, Path(folder)) as (app, pad),
    ):
        figures = measure(app, pad, args.seconds, args.window_size, args.mode)
    print(table(figures))
    if args.json:
        print(f"written to {write_result('play', asdict(figures), args.json)}")
    return 0


def measure(app: App, pad: VirtualPad, seconds: float, window: str, mode: str) -> Figures:
    """Play for `seconds` after a warm-up and sum up."""
    import pygame

    from scope_play.bench.hands import Hand, jumping
    from scope_play.bench.presses import Answers
    from scope_play.bench.session import cpu_seconds, play_until, shares
    from scope_play.play import pacing

    play_until(app, app.clock() + WARM_UP_SECONDS, lambda shot, at: None)
    answers, shown, works = Answers(("south",)), [], []
    hand = Hand(pad, jumping(), app.clock)

    def seen(shot: Shot, at: float) -> None:
        if shot.made is None:
            return
        shown.append(at)
        if shot.part == 0:
            works.append(shot.made.work)
        while hand.presses:
            answers.press([hand.presses.popleft()])
        answers.frame(shot.made.rows, shot.part, at)

    before, began = cpu_seconds(app), app.clock()
    hand.start()
    try:
        play_until(app, began + seconds, seen, hand.looked)
    finally:
        hand.stop()
    lasted = app.clock() - began
    share = shares(before, cpu_seconds(app), lasted)
    spec = app.playback.spec
    if spec is None or len(works) < 2 or not answers.own:
        raise ScopeError("the model made too few chunks to measure; give more --seconds.")

    def percentile(values: list[float], at: int) -> float:
        return float(np.percentile(values, at))

    gaps = np.diff(shown).tolist()
    return Figures(
        model=spec.name,
        trained=spec.trained,
        window=window,
        driver=pygame.display.get_driver(),
        mode=mode,
        seconds=lasted,
        fps=(len(shown) - 1) / (shown[-1] - shown[0]),
        speed=pacing.hint(app.playback.pace),
        frame_gap_p50=percentile(gaps, 50),
        frame_gap_p99=percentile(gaps, 99),
        chunk_p50=percentile(works, 50),
        chunk_p95=percentile(works, 95),
        chunk_p99=percentile(works, 99),
        delay_p50=percentile(answers.first, 50),
        delay_p95=percentile(answers.first, 95),
        own_delay_p50=percentile(answers.own, 50),
        own_delay_p95=percentile(answers.own, 95),
        presses=len(answers.first),
        lost=answers.lost,
        invented=answers.invented,
        loop_share=share["loop"] or 0.0,
        recorder_share=share["recorder"],
        model_share=share["engine"],
        process_share=share["process"] or 0.0,
        cores=os.cpu_count() or 1,
    )


def table(figures: Figures) -> str:
    """The figures as lines of text."""

    def ms(seconds: float) -> str:
        return f"{1000 * seconds:.0f} ms"

    def percent(share: float | None) -> str:
        return "not known here" if share is None else f"{100 * share:.1f} % of one core"

    name = figures.model if figures.trained else f"{figures.model} (untrained)"
    lines = {
        "model": f"{name}, {figures.cores} cores, window {figures.window} ({figures.driver}), {figures.mode} input",
        "frames": f"{figures.fps:.2f} a second over {figures.seconds:.1f} s, {figures.speed}",
        "frame gap p50/p99": f"{ms(figures.frame_gap_p50)} / {ms(figures.frame_gap_p99)}",
        "chunk p50/p95/p99": f"{ms(figures.chunk_p50)} / {ms(figures.chunk_p95)} / {ms(figures.chunk_p99)}",
        "input to frame p50/p95": f"{ms(figures.delay_p50)} / {ms(figures.delay_p95)}",
        "to its own frame p50/p95": f"{ms(figures.own_delay_p50)} / {ms(figures.own_delay_p95)}",
        "presses": f"{figures.presses}, {figures.lost} lost, {figures.invented} invented",
        "window's loop": percent(figures.loop_share),
        "recorder": percent(figures.recorder_share),
        "engine's thread": percent(figures.model_share),
        "whole process": percent(figures.process_share),
    }
    return "\n".join(f"{key:26}{value}" for key, value in lines.items())
