"""`scope-play <command>`: finds the command, parses, runs, and turns a ScopeError into one sentence and exit code 2.

Each command is a module in `scope_play.commands` with `configure(parser)` and `run(args) -> int`, imported only
when it is the one asked for, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from scope_play import __version__
from scope_play.errors import ScopeError
from scope_play.interrupts import Terminated, sigterm_as_interrupt

COMMANDS: dict[str, str] = {
    "play": "play a world in a window (the default)",
    "serve": "let others play here, from a browser or a window elsewhere",
    "arena": "play the simulator that nano learned from",
    "generate": "make a clip from an image, a prompt and recorded actions",
    "replay": "run a recording again, and check that every frame is the same",
    "recover": "turn an interrupted recording into a valid clip",
    "export": "write recordings as a dataset",
    "eval": "measure a world against the arena",
    "train": "train nano, or fine-tune on clip folders",
    "bench": "measure speed and memory",
    "verify": "check the networks against golden vectors",
    "doctor": "say what this machine can run",
    "download": "fetch weights",
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser. Only the `chosen` command's own options are filled in; the others are a name and a line."""
    parser = argparse.ArgumentParser(
        prog="scope-play",
        description="Play a neural world model of first-person shooters with an Xbox controller.",
    )
    parser.add_argument("--version", action="version", version=f"scope-play {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"scope_play.commands.{name}")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 done, 1 a check failed, 2 bad input, 130 interrupted, 143 terminated."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # standard output belongs to the commands
    _mend_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] not in {"-h", "--help", "--version"}):
        if arguments and not arguments[0].startswith("-"):
            build_parser(None).error(f"unknown command {arguments[0]!r}; known: {', '.join(COMMANDS)}")
        arguments.insert(0, "play")
    parser = build_parser(arguments[0])
    args = parser.parse_args(arguments)
    try:
        with sigterm_as_interrupt():
            return int(args.run(args))
    except ScopeError as error:
        print(f"scope-play: {error}", file=sys.stderr)
        return 2
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130


def _mend_streams() -> None:
    """Closed streams swallow what is printed, and those that are not UTF-8 show escapes: neither ends a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
