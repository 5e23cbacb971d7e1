"""Frames a second of the simulator: rules alone, and with its picture."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=32, help="environments (default 32)")
    parser.add_argument("--size", default="96x160", metavar="HxW", help="of the picture (default 96x160)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default 2)")
    parser.add_argument("--threads", type=int, help="for drawing (default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")


def _rate(work: Callable[[], Any], frames: int, seconds: float) -> float:
    """Frames a second of `work`, which makes `frames` of them; the first call is left out."""
    work()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        calls += 1
    return calls * frames / (time.perf_counter() - began)


def measure(batch: int, height: int, width: int, seconds: float, threads: int | None) -> dict[str, float]:
    """The figures by name, in frames a second. States and rows are those of training clips."""
    from scope_play.arena.arena import Arena
    from scope_play.arena.behaviour import sample_states

    states, rows = sample_states(batch, 64, 0)
    arena = Arena(batch, 0, height=height, width=width, threads=threads)

    def simulate() -> None:
        for row in rows:
            arena.step(row)

    turn = iter(range(1 << 30))

    def render() -> None:
        arena.state = states[next(turn) % len(states)]
        arena.render()

    return {
        "simulate": _rate(simulate, batch * len(rows), seconds),
        "behaviour and simulate": _rate(lambda: sample_states(batch, 64, 0), batch * 64, seconds),
        "render": _rate(render, batch, seconds),
    }


def run(args: argparse.Namespace) -> int:
    import os

    from rich.console import Console
    from rich.table import Table

    from scope_play.images import parse_size

    height, width = parse_size(args.size, "HEIGHTxWIDTH", least=(16, 16), most=4096)
    figures = measure(args.batch, height, width, args.seconds, args.threads)
    threads = args.threads or os.cpu_count()
    table = Table(title=f"arena, {height}x{width}, batch {args.batch}, {threads} threads")
    table.add_column("what")
    table.add_column("frames/s", justify="right")
    for name, figure in figures.items():
        table.add_row(name, f"{figure:,.0f}")
    Console().print(table)
    if args.json:
        setup = {"batch": args.batch, "height": height, "width": width, "threads": threads}
        args.json.write_text(json.dumps({"bench": "arena", **setup, "frames_per_second": figures}, indent=2) + "\n")
    return 0
