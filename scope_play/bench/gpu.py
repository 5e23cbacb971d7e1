"""`scope-play bench gpu`: everything that waits for a GPU, in one command, in the order that says most first.

Each part is a process of its own, so that one that fails or dies leaves the rest to run; what it prints is kept beside
its figures, in a folder for each part, and `gpu.json` says how each went. `--on cpu` runs the same parts small, on the
processor, to try the command itself.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scope_play.errors import ScopeError

STEPS_OF_RELEASE = 16
"""Denoising passes at which the released weights are said to stay good without guidance."""
LOG_LINES = 12


@dataclass(frozen=True)
class Part:
    """One process: Python's arguments after the interpreter. `why` is for people."""

    name: str
    why: str
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its log and figures go, below the folder of all."""
        return self.name.replace(" ", "-")

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.arguments])


@dataclass(frozen=True)
class Outcome:
    """How a part ended: its exit code, or None if it ran out of time. `tail` is the end of what it printed."""

    name: str
    command: str
    code: int | None
    seconds: float
    tail: str


def parts(on: str, folder: Path, checkout: Path | None) -> list[Part]:
    """What to run on `on`, "cuda" or "cpu", with the figures below `folder`. Tests need a `checkout` of the source."""
    gpu = on == "cuda"
    model = "scope-random" if gpu else "small-random"
    short = () if gpu else ("--chunks", "2", "--repeats", "1", "--window", "2")
    found: list[Part] = []

    def command(name: str, why: str, *arguments: str) -> None:
        found.append(Part(name, why, ("-m", "scope_play.cli", *arguments)))

    def bench(name: str, why: str, *arguments: str) -> None:
        command(name, why, "bench", *arguments, "--json", str(folder / name.replace(" ", "-")))

    if checkout is not None:
        for precision in ("fp32", "bf16"):
            why = f"the reference's vectors in {precision}"
            command(f"verify {precision}", why, "verify", "--device", on, "--precision", precision, "--failures")
    for offload in ("none", "blocks"):
        few = () if gpu else ("--frames", "5", "--steps", "2")
        bench(f"clip {offload}", f"a whole clip, offload {offload}", "clip", "--offload", offload, "--device", on, *few)
    if checkout is not None:
        tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(checkout / "tests" / "kernels"))
        found.append(Part("kernel tests", "the kernels against their twins", tests))
    tune = ("--tune",) if gpu else ("--repeats", "1", "--window", "2")
    bench("kernels", "each kernel beside its twin and the roofline", "kernels", "--device", on, *tune)
    bench("kernels chunk 3", "the same for three latents", "kernels", "--device", on, "--chunk", "3", *tune)
    stream = ("stream", "--model", model, "--device", on)
    for chunk in ("1", "3"):
        bench(f"stream chunk {chunk}", f"4 steps and a commit, chunk {chunk}", *stream, "--chunk", chunk, *short)
    steps = ("--steps", str(STEPS_OF_RELEASE if gpu else 3))
    bench("stream 16 steps", "as many steps as the released weights want, no guidance", *stream, *steps, *short)
    bench("stream tiny decoder", "the preview decoder", *stream, "--decoder", "tiny", *short)
    for precision in ("fp8", "int8") if gpu else ("int8",):
        bench(f"stream {precision}", f"{precision} weights", *stream, "--precision", precision, *short)
    bench("stream fp8 cache", "caches in 8 bits", *stream, "--cache", "fp8", *short)
    bench("profile", "where the time of a chunk goes", "profile", "--device", on, "--chunks", "3" if gpu else "1")
    small = () if gpu else ("taew2_2", "wan-small", "--latents", "1", "--size", "32x32")
    bench("decode", "the decoders", "decode", "--device", on, *small)
    clip = () if gpu else ("--latents", "2", "--repeats", "1")
    bench("offline", "a solver step beside its arithmetic", "offline", "--device", on, *clip)
    window = () if gpu else ("--window", "2")
    bench("precision", "the error of 8 bits, block by block", "precision", "--device", on, *window)
    bench("roofline", "the floor to compare with", "roofline")
    return found


def run_parts(todo: Sequence[Part], folder: Path, limit: float, say: Callable[[str], None] = print) -> list[Outcome]:
    """Runs every part for at most `limit` seconds each, whatever becomes of the ones before."""
    outcomes = []
    for number, part in enumerate(todo, 1):
        say(f"[{number}/{len(todo)}] {part.name}: {part.why}")
        log, began = folder / part.folder / "log.txt", time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        code: int | None
        with log.open("w") as out:
            process = subprocess.Popen([sys.executable, *part.arguments], stdout=out, stderr=subprocess.STDOUT)
            try:
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
            except BaseException:
                process.kill()
                raise
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        seconds = time.monotonic() - began
        say(f"  {verdict(code)} after {seconds:.0f} s" + ("" if code == 0 else f"\n{tail}"))
        outcomes.append(Outcome(part.name, part.command, code, seconds, tail))
    return outcomes


def verdict(code: int | None) -> str:
    if code is None:
        return "OUT OF TIME"
    return "done" if code == 0 else f"FAILED ({code})"


def find_checkout() -> Path | None:
    """The source tree this package runs from, or None for an installed copy, which has no tests and vectors."""
    root = Path(__file__).parents[2]
    return root if (root / "tests" / "golden").is_dir() else None


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument("--on", choices=("cuda", "cpu"), default="cuda", help="cpu: small, to try the command itself")
    parser.add_argument("--only", metavar="WORD", help="only the parts whose name contains it")
    parser.add_argument("--list", action="store_true", help="print the parts and their commands, and leave")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one part (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "gpu", help="where figures go (default: bench/results/gpu)"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from scope_play.bench.report import write_result

    todo = [part for part in parts(args.on, args.out, find_checkout()) if (args.only or "") in part.name]
    if not todo:
        raise ScopeError(f"no part's name contains {args.only!r}; --list prints them")
    if args.list:
        for part in todo:
            print(f"{part.name}: {part.why}\n    {part.command}")
        return 0
    if args.on == "cuda" and not torch.cuda.is_available():
        raise ScopeError(f"torch {torch.__version__} finds no CUDA GPU; --on cpu tries the command without one")
    outcomes = run_parts(todo, args.out, args.limit)
    failed = [outcome.name for outcome in outcomes if outcome.code != 0]
    where = write_result("gpu", {"on": args.on, "parts": [asdict(outcome) for outcome in outcomes]}, args.out)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} parts done, written to {where}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0
