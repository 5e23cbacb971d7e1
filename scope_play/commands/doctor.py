"""`scope-play doctor`: what this machine has, and what will run on it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.loading.doctor import Findings
    from scope_play.loading.outlook import Outlook


AHEAD = ("play", "generate", "serve", "replay")
"""Commands that can say what they will take."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs; sizes are in bytes")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="COMMAND ...",
        help=f"what you mean to type, beginning with {', '.join(AHEAD)}: what it will take, without doing it",
    )


def run(args: argparse.Namespace) -> int:
    import json

    if args.words:
        return look_ahead(args.words, as_json=args.json)
    from scope_play.loading.doctor import examine

    findings = examine()
    if args.json:
        print(json.dumps(findings.to_json(), indent=2))
    else:
        show(findings)
    return 0


def look_ahead(words: Sequence[str], *, as_json: bool) -> int:
    """Says what a command will take: 0 if there is so much, 1 if not, and as it would itself if it would refuse."""
    import importlib
    import json

    name, *rest = words
    if name not in AHEAD:
        raise ScopeError(f"doctor can say nothing of {name!r}; it knows {', '.join(AHEAD)}")
    command = importlib.import_module(f"scope_play.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"scope-play {name}")
    command.configure(parser)
    outlook: Outlook = command.look_ahead(parser.parse_args(rest))
    if as_json:
        print(json.dumps({"command": list(words), **outlook.to_json()}, indent=2))
    else:
        print("\n".join(told(outlook)))
    return 0 if outlook.fits else 1


def told(outlook: Outlook) -> Iterator[str]:
    """The lines of an outlook."""
    from scope_play.loading.free_memory import gib
    from scope_play.progress import span

    where = "memory" if outlook.device == "cpu" else f"memory of {outlook.device}"
    yield f"{gib(outlook.peak)} of {where} at most; {gib(outlook.free)} are free{'' if outlook.fits else ': too few'}"
    if outlook.offload == "disk":
        yield "the transformer's blocks stay in their files, and are read in every pass"
    if outlook.offload == "blocks":
        yield f"the transformer's blocks stay in host memory: {gib(outlook.host)} there"
    if outlook.reading:
        yield f"of it {gib(outlook.reading)} while prompts are read, before the rest is loaded"
    if outlook.device == "cpu":
        yield f"of it {gib(outlook.program)} the program itself"
    if outlook.seconds is not None:
        yield f"about {span(outlook.seconds)} for a clip"


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
