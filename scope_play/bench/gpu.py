"""`scope-play bench gpu`: everything that waits for a GPU, in one command, in the order that says most first.

Each part is a process of its own, so that one that fails or dies leaves the rest to run; what it prints is kept beside
its figures, in a folder for each part, and `gpu.json` says how each went. With `--minutes` no part is begun after them,
and `--resume` goes on with those that are not done. `--dry-run` runs the same parts small, on the processor, to try the
command itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scope_play.bench.gpu_parts import Part, parts
from scope_play.errors import ScopeError

LOG_LINES = 12
SHORTEST = 10.0
"""Seconds in which no part gets anywhere."""


@dataclass(frozen=True)
class Outcome:
    """How a part ended: its exit code, or None if it ran out of time. `tail` is the end of what it printed."""

    name: str
    command: str
    code: int | None
    seconds: float
    tail: str


def run_parts(
    todo: Sequence[Part],
    folder: Path,
    seconds: float = float("inf"),
    *,
    shortest: float = SHORTEST,
    done: Callable[[Outcome], None] = lambda outcome: None,
    say: Callable[[str], None] = print,
) -> list[Part]:
    """Runs every part for at most its limit, whatever becomes of the ones before, until `seconds` are over.

    With `shortest` or less left no part is begun. `done` is told how each ended. Returns the parts that were not begun.
    """
    end = time.monotonic() + seconds
    for number, part in enumerate(todo, 1):
        left = end - time.monotonic()
        if left <= shortest:
            return list(todo[number - 1 :])
        say(f"[{number}/{len(todo)}] {part.name}: {part.why}")
        log, began = folder / part.folder / "log.txt", time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        code: int | None
        with log.open("w") as out:
            process = subprocess.Popen([sys.executable, *part.arguments], stdout=out, stderr=subprocess.STDOUT)
            try:
                code = process.wait(timeout=min(part.limit, left))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
            except BaseException:
                process.kill()
                raise
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        took = time.monotonic() - began
        say(f"  {verdict(code)} after {took:.0f} s" + ("" if code == 0 else f"\n{tail}"))
        done(Outcome(part.name, part.command, code, took, tail))
    return []


def verdict(code: int | None) -> str:
    if code is None:
        return "OUT OF TIME"
    return "done" if code == 0 else f"FAILED ({code})"


def find_checkout() -> Path | None:
    """The source tree this package runs from, or None for an installed copy, which has no tests and vectors."""
    root = Path(__file__).parents[2]
    return root if (root / "tests" / "golden").is_dir() else None


def outcomes_before(file: Path) -> list[Outcome]:
    """Those of the run that wrote `file`; none if there is no such file."""
    if not file.is_file():
        return []
    try:
        return [Outcome(**part) for part in json.loads(file.read_text("utf-8"))["parts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ScopeError(f"{file} is not what a run of bench gpu wrote; delete it, or leave out --resume") from error


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument("--minutes", type=float, metavar="N", help="begin no part after so long, and end the last then")
    parser.add_argument("--resume", action="store_true", help="leave out what a run into the same folder has done")
    parser.add_argument("--dry-run", action="store_true", help="small, on the processor, to try the command itself")
    parser.add_argument("--only", metavar="WORD", help="only the parts whose name contains it")
    parser.add_argument("--list", action="store_true", help="print the parts and their commands, and leave")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "gpu", help="where figures go (default: bench/results/gpu)"
    )


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console

    from scope_play.bench.gpu_table import floors, read_figures, table
    from scope_play.bench.report import write_result

    todo = [part for part in parts(args.out, find_checkout(), dry=args.dry_run) if (args.only or "") in part.name]
    if not todo:
        raise ScopeError(f"no part's name contains {args.only!r}; --list prints them")
    if args.list:
        for part in todo:
            print(f"{part.name}, {part.limit:.0f} s at most: {part.why}\n    {part.command}")
        return 0
    if not args.dry_run and not torch.cuda.is_available():
        raise ScopeError(f"torch {torch.__version__} finds no CUDA GPU; --dry-run tries the command without one")
    if args.minutes is not None and args.minutes <= 0:
        raise ScopeError(f"--minutes is {args.minutes:g}, but must be more than none")
    before, outcomes = read_figures(args.out), outcomes_before(args.out / "gpu.json") if args.resume else []
    done_before = {(outcome.name, outcome.command) for outcome in outcomes if outcome.code == 0}
    left_out = [part for part in todo if (part.name, part.command) in done_before]
    todo = [part for part in todo if part not in left_out]

    def note(outcome: Outcome) -> None:
        """After every part, so that a run that is cut off can be gone on with."""
        outcomes[:] = [*(other for other in outcomes if other.name != outcome.name), outcome]
        write_result("gpu", {"dry_run": args.dry_run, "parts": [asdict(each) for each in outcomes]}, args.out)

    waiting = run_parts(todo, args.out, 60 * args.minutes if args.minutes else float("inf"), done=note)
    gpu = None if args.dry_run else torch.cuda.get_device_name()
    Console().print(table(read_figures(args.out), before, floors(gpu)))
    return conclude(outcomes, waiting, len(left_out))


def conclude(outcomes: Iterable[Outcome], waiting: Sequence[Part], done_before: int) -> int:
    """Says how it went; the exit code."""
    outcomes = list(outcomes)
    failed = [outcome.name for outcome in outcomes if outcome.code != 0]
    before = f", {done_before} of them before" if done_before else ""
    print(f"{len(outcomes) - len(failed)} of {len(outcomes) + len(waiting)} parts done{before}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    if waiting:
        print(f"not begun, --resume goes on with them: {', '.join(part.name for part in waiting)}")
    return 1 if failed else 0
