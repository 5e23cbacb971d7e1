"""`scope-play bench remote`: play elsewhere, over a line in this process that is as late, slow or broken as you say.

The server is a process of its own. A press is injected into the pad; its own frame is the one that the row which holds
it leads to. In the browser that frame is known by a mark in its corner, read from the canvas, so that encoding, the
line, decoding and drawing are all part of it; the window knows it by its rows. Local play is measured in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scope_play.bench.line import Line
from scope_play.bench.remote_players import BEFORE, Bot, Knock, Seen, play_in_browser, play_in_window
from scope_play.bench.report import RESULTS, write_result
from scope_play.bench.served import MarkedServer
from scope_play.errors import ScopeError
from scope_play.images import parse_size

AFTER = 0.3
"""Seconds after a standstill before the next press: the page or the window takes up the hands again."""

SETTLED = 1.0
"""Seconds after a standstill from which delays must be as before."""

UNITS = {"kbit": 1e3, "mbit": 1e6}


@dataclass(frozen=True)
class Figures:
    """Of one line and player: seconds, bits a second, shares of a core. `before` and `after`: the median delay before a
    standstill, and from a second after it. `told`: when each who came too many was told a place in the queue."""

    player: str
    round_trip: float
    fps: float
    delay_p50: float
    delay_p95: float
    presses: int
    lost: int
    invented: int
    down: float
    up: float
    cpu: float
    cpu_outside: float
    before: float | None = None
    after: float | None = None
    told: tuple[float, ...] = ()


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--seconds", type=float, default=60.0)
    add("--rtt", default="0,20,60", metavar="MS,MS", help="round trips of the line, one run each")
    add("--browser", action="store_true", help="the page, in a browser without a window")
    add("--connect", action="store_true", help="the window, on SDL's dummy driver")
    add("--players", type=int, default=1, help="without either: so many players without a picture")
    add("--stall", type=float, metavar="SECONDS", help="let the line stand still half way")
    add("--rate", metavar="1mbit", help="the most that the line carries each way")
    add("--soak", type=float, metavar="MINUTES", help="--players come and go for so long; memory by the minute")
    add("--seats", type=int, help="fewer than --players: the others wait, and how soon they are told is measured")
    add("--size", metavar="HxW", help="of the picture, with --model arena, the simulator: 480x832")
    add("--no-local", action="store_true", help="leave local play out")
    add("--json", type=Path, nargs="?", const=RESULTS, metavar="FOLDER", help="also write remote.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    if args.seconds < 5 or args.players < 1 or (args.browser and args.connect):
        raise ScopeError("give at least 5 --seconds and one player, and one of --browser and --connect.")
    if args.connect and args.stall:
        raise ScopeError("the window pauses when the line stands still, for the player to go on; leave --stall out.")
    if args.seats is not None and (args.browser or args.connect or not 1 <= args.seats < args.players):
        raise ScopeError("--seats must be fewer than --players, without --browser and --connect; give both.")
    if args.size and (args.model != "arena" or not args.no_local):
        raise ScopeError("--size needs --model arena, the simulator, and --no-local; a model has a size of its own.")
    if args.size:
        parse_size(args.size, "HEIGHTxWIDTH")
    if args.soak:
        return _soak(args.model, args.players, args.soak)
    kind = "browser" if args.browser else "window" if args.connect else "no picture"
    trips = [_number(text, "--rtt") / 1000 for text in args.rtt.split(",")]
    rate = _rate(args.rate) if args.rate else None
    local = None if args.no_local else _local(args.model, min(args.seconds, 30.0))
    found: list[Figures] = []
    seats = args.seats or args.players + 1
    with MarkedServer(args.model, seats, args.size) as server:
        for trip in trips:
            playing, waiting = min(args.players, seats), max(0, args.players - seats)
            found += _measure(server, kind, (playing, waiting), trip, rate, args.stall, args.seconds)
    if local:
        Console().print(
            f"local play: {1000 * local[0]:.0f} / {1000 * local[1]:.0f} ms from press to own frame (p50 / p95)"
        )
    Console().print(f"{kind}, {args.players} at a time; presses: answered (-lost +invented); p50 / p95")
    Console(width=120).print(table(found))
    for each in {figures.round_trip: figures for figures in found if figures.told}.values():
        waits = ", ".join(f"{1000 * seconds:.0f}" for seconds in each.told)
        print(f"one too many, {1000 * each.round_trip:.0f} ms away: told a place in the queue after {waits} ms")
    if args.json:
        numbers = {"local": local, "runs": [asdict(figures) for figures in found]}
        print(f"written to {write_result('remote', numbers, args.json)}")
    return 0


def _soak(model: str, players: int, minutes: float) -> int:
    from scope_play.bench.remote_soak import soak

    with MarkedServer(model, players + 1) as server, Line(server.port) as line:
        for number, each in enumerate(soak(server, f"http://127.0.0.1:{line.port}/#{server.token}", players, minutes)):
            print(
                f"minute {number + 1}: {each.memory >> 20} MB, {each.left} left having seen {each.frames} frames, "
                f"{each.lost} presses lost, {each.invented} invented",
                flush=True,
            )
    return 0


def _measure(
    server: MarkedServer,
    kind: str,
    players: tuple[int, int],
    trip: float,
    rate: float | None,
    stall: float | None,
    seconds: float,
) -> list[Figures]:
    """`players`: who plays, and who waits meanwhile."""
    stood = [float("inf")]
    with Line(server.port, trip, rate) as line, tempfile.TemporaryDirectory(prefix="scope-play-bench-") as folder:
        url = f"http://127.0.0.1:{line.port}/#{server.token}"

        def meanwhile() -> None:
            if stall:
                stood.append(time.perf_counter() if kind != "browser" else time.time())
                line.stall(stall)

        hands_off = BEFORE + stall + AFTER if stall else 0.0

        clock, cpu, carried = time.perf_counter(), server.cpu(), list(line.carried)
        told: tuple[float, ...] = ()
        if kind == "browser":
            seen = [play_in_browser(url, seconds, hands_off, meanwhile)]
        elif kind == "window":
            seen = [play_in_window(url, seconds, Path(folder))]
        else:
            seen, told = _bots(url, players, seconds, hands_off, meanwhile)
        lasted = time.perf_counter() - clock
        used = [(now - then) / lasted for now, then in zip(server.cpu(), cpu, strict=True)]
        bits = [8 * (now - then) / lasted for now, then in zip(line.carried, carried, strict=True)]
    figures = [_figures(kind, trip, each, stood[-1], stall, (bits[0], bits[1]), (used[0], used[1])) for each in seen]
    return [replace(each, told=told) for each in figures]


def _bots(
    url: str, players: tuple[int, int], seconds: float, hands_off: float, meanwhile: Callable[[], None]
) -> tuple[list[Seen], tuple[float, ...]]:
    bots = [Bot(url, seed) for seed in range(players[0])]
    for bot in bots:
        bot.start()
    for bot in bots:
        if not bot.ready.wait(60):
            raise ScopeError(bot.problem or "a player did not come to play within a minute.")
    waiting = [Knock(url) for _ in range(players[1])]
    for place, knock in enumerate(waiting, 1):
        if knock.place != place:
            raise ScopeError(f"who came as number {place} of those too many was told place {knock.place}.")
    time.sleep(seconds / 2)
    for bot in bots:
        bot.hands_off(hands_off)
    time.sleep(min(hands_off, BEFORE))
    meanwhile()
    time.sleep(seconds / 2)
    for knock in waiting:
        knock.close()
    for bot in bots:
        bot.stop()
    return [bot.seen for bot in bots], tuple(knock.seconds for knock in waiting)


def _figures(
    kind: str,
    trip: float,
    seen: Seen,
    stood: float,
    stall: float | None,
    bits: tuple[float, float],
    used: tuple[float, float],
) -> Figures:
    if len(seen.delays) < 3:
        raise ScopeError(f"only {len(seen.delays)} presses were answered; give more --seconds.")
    at, delays = np.asarray(seen.pressed_at), np.asarray(seen.delays)
    early, late = delays[at < stood - SETTLED], delays[at > stood + (stall or 0.0) + SETTLED]
    calm = delays if stall is None else np.concatenate([early, late])
    return Figures(
        player=kind,
        round_trip=trip,
        fps=seen.fps,
        delay_p50=float(np.percentile(calm, 50)),
        delay_p95=float(np.percentile(calm, 95)),
        presses=len(seen.delays),
        lost=seen.lost,
        invented=seen.invented,
        down=bits[0],
        up=bits[1],
        cpu=used[0],
        cpu_outside=used[1],
        before=float(np.median(early)) if stall and len(early) else None,
        after=float(np.median(late)) if stall and len(late) else None,
    )


def _local(model: str, seconds: float) -> tuple[float, float]:
    from scope_play.bench.play import measure
    from scope_play.bench.session import playing

    with (
        tempfile.TemporaryDirectory(prefix="scope-play-bench-") as folder,
        playing(model, None, "exact", "1280x720", Path(folder)) as (app, pad),
    ):
        figures = measure(app, pad, seconds, "1280x720", "exact")
    return figures.own_delay_p50, figures.own_delay_p95


def table(found: list[Figures]) -> object:
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    heads = ("round trip", "fps", "press to frame", "presses", "down, up Mbit/s", "server", "outside model")
    for head in heads:
        made.add_column(head, justify="right", no_wrap=True)
    for one in found:
        moved = "" if one.after is None or one.before is None else f"{1000 * (one.after - one.before):+.0f} after"
        made.add_row(
            f"{1000 * one.round_trip:.0f} ms",
            f"{one.fps:.2f}",
            f"{1000 * one.delay_p50:.0f} / {1000 * one.delay_p95:.0f} ms {moved}",
            f"{one.presses} (-{one.lost} +{one.invented})",
            f"{one.down / 1e6:.2f}, {one.up / 1e6:.3f}",
            f"{100 * one.cpu:.0f} %",
            f"{100 * one.cpu_outside:.1f} %",
        )
    return made


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise ScopeError(f"{option} has {text!r}, which is no number of ms; write for example 0,20,60.")
    return number


def _rate(text: str) -> float:
    for unit, bits in UNITS.items():
        if text.lower().endswith(unit):
            return max(1e3, _number(text[: -len(unit)], "--rate") * bits)
    raise ScopeError(f"--rate {text!r} has no unit; write for example 1mbit or 500kbit.")
