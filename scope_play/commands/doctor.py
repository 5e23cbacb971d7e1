"""`scope-play doctor`: what this machine has, and what will run on it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scope_play.loading.doctor import Findings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs; sizes are in bytes")


def run(args: argparse.Namespace) -> int:
    import json

    from scope_play.loading.doctor import examine

    findings = examine()
    if args.json:
        print(json.dumps(findings.to_json(), indent=2))
    else:
        show(findings)
    return 0


def show(findings: Findings) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from scope_play.loading.free_memory import gib

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    gpus = {gpu["name"]: f"{gib(gpu['free'])} of {gib(gpu['memory'])} free" for gpu in findings.gpu}
    sections: dict[str, Mapping[str, str]] = {
        "software": findings.software,
        "GPU": gpus or {"none": "models run on the processor"},
        "memory": {name.replace("_", " "): gib(size) for name, size in findings.memory.items()},
        "disk": {name: f"{gib(size)} free" for name, size in findings.disk.items()},
        "display": findings.display,
        "gamepads": dict.fromkeys(findings.pads, "seen by SDL") or {"none": "keyboard and mouse work"},
        "kernels": findings.kernels,
        "serving": findings.serving,
        "weights": findings.weights,
    }
    for title, rows in sections.items():
        for index, (name, value) in enumerate(rows.items()):
            table.add_row("" if index else title, name, escape(value))
    console = Console()
    console.print(table)
    modes = Table("mode", "device", box=None, pad_edge=False)
    modes.add_column("memory", justify="right")
    modes.add_column("runs here")
    for mode in findings.modes:
        verdict = "[green]yes[/]" if mode.runs else f"[red]no[/]: {mode.reason}"
        modes.add_row(mode.name, mode.device, gib(mode.needs), verdict)
    console.print()
    console.print(modes)
