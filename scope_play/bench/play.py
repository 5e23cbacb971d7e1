"""`scope-play bench play`: the app as it is, played by injected key presses, with HUD and recording on.

Input-to-frame delay runs from the moment a press is put into the event queue to the moment the first frame made in
knowledge of it is on screen. Presses come at random moments, so the delay includes waiting for the next sampling.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.actions import BUTTONS
from scope_play.bench.report import RESULTS, write_result
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.play.app import App
    from scope_play.play.messages import Made

WARM_UP_SECONDS = 2.0
SHORTEST = 3.0
PRESS_EVERY = (0.25, 0.6)
PRESS_SECONDS = 0.08


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
    presses: int
    loop_share: float
    recorder_share: float | None
    model_share: float | None
    process_share: float
    cores: int


@dataclass
class Log:
    """What was seen while measuring. Times are of the app's clock."""

    shown: list[float] = field(default_factory=list)
    chunks: list[tuple[Made, float]] = field(default_factory=list)
    presses: list[float] = field(default_factory=list)


class Presser(threading.Thread):
    """Presses the jump key at random moments, as a hand would, through the event queue."""

    def __init__(self, presses: list[float]) -> None:
        super().__init__(name="presser", daemon=True)
        self._presses = presses
        self._stop_asked = threading.Event()

    def run(self) -> None:
        import pygame

        chance = random.Random(0)
        while not self._stop_asked.wait(chance.uniform(*PRESS_EVERY)):
            self._presses.append(time.perf_counter())
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE, mod=0, unicode=" "))
            self._stop_asked.wait(PRESS_SECONDS)
            pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_SPACE, mod=0))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--seconds", type=float, default=30.0)
    add("--steps", type=int, help="denoising passes a chunk")
    add("--mode", choices=("exact", "responsive"), default="exact")
    add("--window-size", default="1280x720", metavar="WxH")
    add("--json", type=Path, nargs="?", const=RESULTS, metavar="FOLDER", help="also write play.json, to this folder")


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from scope_play.commands.play import free_memory, open_world
    from scope_play.play.app import App, Options
    from scope_play.play.settings import Settings

    if args.seconds < SHORTEST:
        raise ScopeError(f"--seconds {args.seconds} is too short to measure; give at least {SHORTEST:.0f}.")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with tempfile.TemporaryDirectory(prefix="scope-play-bench-") as folder:
        app = App(
            Options(model=args.model, gamepad="keyboard", autoplay=True, record=Path(folder)),
            Settings(window_size=args.window_size, mode=args.mode),
            lambda model: open_world(model, args.steps),
            free_memory=free_memory,
        )
        try:
            figures = measure(app, args.seconds, args.window_size, args.mode)
        finally:
            app.close()
    print(table(figures))
    if args.json:
        print(f"written to {write_result('play', asdict(figures), args.json)}")
    return 0


def measure(app: App, seconds: float, window: str, mode: str) -> Figures:
    """Play for `seconds` after a warm-up and sum up."""
    import pygame

    from scope_play.play import pacing
    from scope_play.play.flow import Screen

    while app.flow.screen is not Screen.PLAY:
        _turn(app, Log())
        if app.flow.message.alert:
            raise ScopeError(app.flow.message.text)
    _play_until(app, app.clock() + WARM_UP_SECONDS, Log())
    log, before = Log(), _cpu_seconds(app)
    began = app.clock()
    presser = Presser(log.presses)
    presser.start()
    _play_until(app, began + seconds, log)
    presser.stop()
    lasted = app.clock() - began
    after = _cpu_seconds(app)
    share = {
        name: None if (now := after[name]) is None or (then := before[name]) is None else (now - then) / lasted
        for name in after
    }
    delays = press_delays(log.presses, log.chunks)
    works = [made.work for made, _ in log.chunks]
    gaps = np.diff(log.shown)
    spec = app.player.spec
    if spec is None or len(works) < 2 or not delays:
        raise ScopeError("the model made too few chunks to measure; give more --seconds.")
    return Figures(
        model=spec.name,
        trained=spec.trained,
        window=window,
        driver=pygame.display.get_driver(),
        mode=mode,
        seconds=lasted,
        fps=(len(log.shown) - 1) / (log.shown[-1] - log.shown[0]),
        speed=pacing.hint(app.player.pace),
        frame_gap_p50=float(np.percentile(gaps, 50)),
        frame_gap_p99=float(np.percentile(gaps, 99)),
        chunk_p50=float(np.percentile(works, 50)),
        chunk_p95=float(np.percentile(works, 95)),
        chunk_p99=float(np.percentile(works, 99)),
        delay_p50=float(np.percentile(delays, 50)),
        delay_p95=float(np.percentile(delays, 95)),
        presses=len(delays),
        loop_share=share["loop"] or 0.0,
        recorder_share=share["recorder"],
        model_share=share["engine"],
        process_share=share["process"] or 0.0,
        cores=os.cpu_count() or 1,
    )


def press_delays(presses: Sequence[float], chunks: Sequence[tuple[Made, float]]) -> list[float]:
    """Seconds from each press to its first frame: the n-th rising edge of the jump column belongs to the n-th press."""
    column = BUTTONS.index("south")
    delays, held, waiting = [], False, list(presses)
    for made, shown in chunks:
        for pressed in made.rows[:, column] > 0:
            if pressed and not held and waiting:
                delays.append(shown - waiting.pop(0))
            held = bool(pressed)
    return delays


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
        "input to frame p50/p95": f"{ms(figures.delay_p50)} / {ms(figures.delay_p95)} ({figures.presses} presses)",
        "window's loop": percent(figures.loop_share),
        "recorder": percent(figures.recorder_share),
        "engine's thread": percent(figures.model_share),
        "whole process": percent(figures.process_share),
    }
    return "\n".join(f"{key:24}{value}" for key, value in lines.items())


def _play_until(app: App, end: float, log: Log) -> None:
    while app.clock() < end and not app.flow.over:
        _turn(app, log)


def _turn(app: App, log: Log) -> None:
    before = app.player.shot
    app.step()
    shot = app.player.shot
    if shot is not None and shot is not before and shot.made is not None:
        log.shown.append(app.drawn_at)
        if shot.part == 0:
            log.chunks.append((shot.made, app.drawn_at))
    app.rest()


def _cpu_seconds(app: App) -> dict[str, float | None]:
    """CPU time so far of the loop's thread, the recorder's, the engine's, and the whole process."""
    by_name = {thread.name: thread for thread in threading.enumerate()}
    return {
        "loop": time.thread_time(),
        "recorder": _thread_seconds(by_name.get("recorder")),
        "engine": _thread_seconds(app.engine.thread),
        "process": time.process_time(),
    }


def _thread_seconds(thread: threading.Thread | None) -> float | None:
    if thread is None or thread.ident is None or sys.platform == "win32" or sys.platform == "darwin":
        return None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
