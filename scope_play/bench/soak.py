"""`scope-play bench soak`: hours of the demo on a virtual pad with HUD and recording on, watched minute by minute.

Every minute a line of JSON goes to `--out`: memory, frames, chunk time, input delay, CPU. When the time is over the
recording is closed and checked: frames, rows and hashes agree in number, the video decodes to as many frames, and the
first `--replay-minutes` are made again and compared hash by hash.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from scope_play.bench.presses import Answers
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.bench.virtual_pad import VirtualPad
    from scope_play.play.app import App
    from scope_play.play.playback import Shot

FAILED = 1


@dataclass(frozen=True)
class Line:
    """One stretch of time, `minute` minutes after play began. Times in milliseconds, memory in megabytes."""

    minute: float
    rss_mb: float
    frames: int
    fps: float
    speed: str
    gap_p99: float
    chunk_p50: float | None
    chunk_p95: float | None
    chunk_p99: float | None
    delay_p50: float | None
    delay_p95: float | None
    presses: int
    lost: int
    invented: int
    loop_share: float | None
    process_share: float | None
    recorder: str
    recorded: int


@dataclass(frozen=True)
class ClipCheck:
    """What the finished recording holds; `problem` is empty if all of it agrees."""

    clip: str
    frames: int
    rows: int
    hashes: int
    video_frames: int
    megabytes: float
    replayed: int
    problem: str = ""


@dataclass
class Watch:
    """What is seen during one stretch."""

    answers: Answers
    shown: list[float] = field(default_factory=list)
    works: list[float] = field(default_factory=list)

    def frame(self, shot: Shot, at: float) -> None:
        if shot.made is None:
            return
        self.shown.append(at)
        if shot.part == 0:
            self.works.append(shot.made.work)
        self.answers.frame(shot.made.rows, shot.part, at)

    def empty(self) -> None:
        self.shown, self.works = self.shown[-1:], []
        self.answers.first, self.answers.own = [], []


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--minutes", type=float, default=60.0)
    add("--out", type=Path, default=Path("soak.jsonl"), help="a line of JSON a minute, then one about the clip")
    add("--record", type=Path, metavar="DIR", help="keep the clip below DIR instead of deleting it after the check")
    add("--replay-minutes", type=float, default=2.0, help="of the clip, made again and compared at the end")
    add("--every", type=float, default=60.0, metavar="SECONDS", help="between lines")
    add("--steps", type=int, help="denoising passes a chunk")
    add("--seed", type=int, default=0, help="of what the demo plays")
    add("--window-size", default="1280x720", metavar="WxH")


def run(args: argparse.Namespace) -> int:
    from scope_play.bench.session import playing

    if args.minutes <= 0 or args.every <= 0:
        raise ScopeError("--minutes and --every must be more than 0.")
    with _recordings(args.record) as folder, _lines(args.out) as write:
        before = set(folder.iterdir())
        lines = []
        with (
            contextlib.suppress(KeyboardInterrupt),  # what there is by then is checked all the same
            playing(args.model, args.steps, "exact", args.window_size, folder) as (app, pad),
        ):
            for line in soak(app, pad, 60 * args.minutes, args.every, args.seed):
                lines.append(line)
                write(asdict(line))
                print(_short(line), flush=True)
        (clip,) = set(folder.iterdir()) - before
        check = check_clip(clip, args.replay_minutes)
        write({"check": asdict(check), "memory": memory_slope(lines)})
    print(f"memory: {memory_slope(lines)} MB a minute over the last half")
    print(f"clip: {check.frames} frames, {check.megabytes:.1f} MB, {check.replayed} frames made again; ", end="")
    print(check.problem or "all agree")
    return FAILED if check.problem else 0


def soak(app: App, pad: VirtualPad, seconds: float, every: float, seed: int) -> Iterator[Line]:
    """Plays, and gives a `Line` for every `every` seconds."""
    from scope_play.bench.hands import COLUMNS, Hand, demo
    from scope_play.bench.session import cpu_seconds, play_until, shares
    from scope_play.play import pacing

    watch = Watch(Answers(tuple(COLUMNS.values())))
    hand = Hand(pad, demo(seed, app.clock), app.clock)
    process = psutil.Process()

    def seen(shot: Shot, at: float) -> None:
        while hand.presses:
            watch.answers.press([hand.presses.popleft()])
        watch.frame(shot, at)

    began = last = app.clock()
    hand.start()
    try:
        while last < began + seconds:
            before = cpu_seconds(app)
            play_until(app, min(last + every, began + seconds), seen, hand.looked)
            now = app.clock()
            share = shares(before, cpu_seconds(app), now - last)
            status = app.playback.recording.status if app.playback.recording else None
            gaps = np.diff(watch.shown).tolist()
            yield Line(
                minute=round((now - began) / 60, 2),
                rss_mb=round(process.memory_info().rss / 2**20, 1),
                frames=len(gaps),
                fps=round(len(gaps) / max(sum(gaps), 1e-9), 2),
                speed=pacing.hint(app.playback.pace),
                gap_p99=_ms(gaps, 99) or 0.0,
                chunk_p50=_ms(watch.works, 50),
                chunk_p95=_ms(watch.works, 95),
                chunk_p99=_ms(watch.works, 99),
                delay_p50=_ms(watch.answers.first, 50),
                delay_p95=_ms(watch.answers.first, 95),
                presses=len(watch.answers.first),
                lost=watch.answers.lost,
                invented=watch.answers.invented,
                loop_share=_rounded(share["loop"]),
                process_share=_rounded(share["process"]),
                recorder=(status.text or status.state) if status else "none",
                recorded=status.frames if status else 0,
            )
            watch.empty()
            last = now
    finally:
        hand.stop()


def check_clip(path: Path, replay_minutes: float) -> ClipCheck:
    """Reads a finished recording, and makes its beginning again."""
    from scope_play.recording.clip import VIDEO, read_clip
    from scope_play.recording.replay import clip_script, first_difference, play
    from scope_play.recording.video import count_frames
    from scope_play.world import open_like

    megabytes = sum(file.stat().st_size for file in path.iterdir()) / 2**20
    try:
        clip = read_clip(path)
    except ScopeError as error:
        return ClipCheck(path.name, 0, 0, 0, 0, megabytes, 0, str(error))
    meta = clip.metadata
    counts = (meta.frames, len(clip.rows), len(clip.columns.frame_hash), count_frames(path / VIDEO))
    problem = "" if len(set(counts)) == 1 else f"frames, rows, hashes and video disagree: {counts}"
    script = clip_script(clip)
    chunks = round(replay_minutes * 60 * meta.header.fps / script.frames_per_chunk)
    script = replace(script, beats=script.beats[:chunks])
    replayed = 0
    if script.beats and not problem:
        difference = first_difference(script, play(script, open_like(clip.metadata.header)))
        replayed = len(script.beats) * script.frames_per_chunk + 1
        if difference:
            problem = f"frame {difference.frame} is not as recorded"
    return ClipCheck(path.name, *counts, megabytes, replayed, problem)


def memory_slope(lines: Sequence[Line]) -> float | None:
    """Megabytes a minute over the last half of the lines, by least squares; None for fewer than four lines."""
    late = lines[len(lines) // 2 :]
    if len(lines) < 4:
        return None
    slope = np.polyfit([line.minute for line in late], [line.rss_mb for line in late], 1)[0]
    return round(float(slope), 3)


@contextlib.contextmanager
def _recordings(chosen: Path | None) -> Iterator[Path]:
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="scope-play-soak-") as folder:
            yield Path(folder)
        return
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScopeError(f"{chosen} cannot be made ({error.strerror}); choose another --record.") from error
    yield chosen


@contextlib.contextmanager
def _lines(out: Path) -> Iterator[Any]:
    """A function that writes one line at once, so that an interrupted soak leaves what it saw."""
    from scope_play.bench.report import machine

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8") as stream:

            def write(line: dict[str, Any]) -> None:
                when = datetime.now(timezone.utc).isoformat(timespec="seconds")
                stream.write(json.dumps({"when": when, **line}) + "\n")
                stream.flush()

            write({"machine": machine()})
            yield write
    except OSError as error:
        raise ScopeError(f"{out} cannot be written ({error.strerror}); choose another --out.") from error


def _short(line: Line) -> str:
    return (
        f"{line.minute:6.1f} min  {line.rss_mb:7.1f} MB  {line.fps:5.2f} fps  {line.speed}  chunk {line.chunk_p50} / "
        f"{line.chunk_p99} ms  delay {line.delay_p50} / {line.delay_p95} ms  {line.lost} lost  {line.recorder}"
    )


def _ms(seconds: Sequence[float], percentile: int) -> float | None:
    return round(1000 * float(np.percentile(seconds, percentile)), 1) if len(seconds) else None


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
