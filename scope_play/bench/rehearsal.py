"""`scope-play bench rehearsal --out DIR`: the released weights' whole path, walked with random numbers of their size.

Publishes files of the released names and shapes, then runs the commands a user types, each in a process of its own:
download (from a Hub on the loopback interface), doctor, verify, generate, play without a window, replay. Prints each
step's time and peak memory, and beside it what `doctor` said of the same command before it. At full size it needs
45 GB of disk: a published file is made when it is asked for, and gone once it is sent. With `--keep` a walk that was
interrupted goes on, in the same folder, behind the last step that ended well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.files import place as as_path
from scope_play.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scope_play.bench.loopback_hub import LoopbackHub
    from scope_play.bench.published import Sizes

REPOSITORY = "zizhaotong/SCOPE"
DISK = {"full": 45e9, "small": 1e8}
PROMPT = "walkona kosked, ok."
WALK = "walk.json"
"""What was done, in the folder of a walk."""


@dataclass(frozen=True)
class Step:
    """What one command did. Bytes: of memory that is the process's own, at most, and what was said before."""

    name: str
    seconds: float
    peak: int
    said: int | None
    code: int
    last_line: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=as_path, required=True, metavar="DIR", help="an empty folder on a large disk, or that of a walk"
    )
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of the networks (default full)")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps of clip and chunks (default 1)")
    parser.add_argument("--window", type=int, help="latents that play remembers (default: the model's own)")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--offload", default="auto", choices=("auto", "none", "blocks", "disk"))
    parser.add_argument("--without-verify", action="store_true", help="leave out the golden vectors, half a minute")
    parser.add_argument("--keep", action="store_true", help="leave the weights there")
    parser.add_argument("--json", action="store_true", help="also write bench/results/rehearsal.json")


def run(args: argparse.Namespace) -> int:
    from scope_play.bench.published import SIZES
    from scope_play.bench.report import write_result

    done = steps_before(args.out)
    if not done:
        args.out.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(args.out).free < DISK[args.size]:
            raise ScopeError(f"{args.out} needs {DISK[args.size] / 1e9:g} GB, and less is free; use another disk")
    steps = []
    try:
        for step in walk(args, SIZES[args.size], done):
            steps.append(step)
            print(f"{step.name}: {step.seconds:.0f} s, {step.peak / 2**30:.2f} GiB, exit {step.code}", flush=True)
            with replacing(args.out / WALK) as beside:
                beside.write_text(json.dumps([asdict(step) for step in steps]), "utf-8")
    finally:
        if not args.keep:
            shutil.rmtree(args.out / "weights", ignore_errors=True)
            shutil.rmtree(args.out / "published", ignore_errors=True)
    show(steps)
    if args.json:
        settings = {name: str(value) for name, value in vars(args).items() if name != "run"}
        write_result("rehearsal", {"settings": settings, "steps": [asdict(step) for step in steps]})
    return max((step.code for step in steps), default=0)


def steps_before(out: Path) -> dict[str, Step]:
    """The steps of an earlier walk into `out` that ended well, as far as none before them did not; by their names.

    Raises ScopeError for a folder with other things in it, and for a walk whose weights are gone.
    """
    if not out.exists() or not any(out.iterdir()):
        return {}
    if not (out / WALK).is_file() or not (out / "published").is_dir():
        raise ScopeError(f"{out} is not empty, and no walk with --keep to go on with; name a new folder")
    steps = [Step(**step) for step in json.loads((out / WALK).read_text("utf-8"))]
    return {step.name: step for step in takewhile(lambda step: step.code == 0, steps)}


def walk(args: argparse.Namespace, sizes: Sizes, done: Mapping[str, Step]) -> Iterator[Step]:
    """Every step in turn; those that need what a failed one should have left fail too, and say so."""
    out, published, weights = args.out, args.out / "published", args.out / "weights"
    quiet = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(out)}
    arguments = f"Path({str(published)!r}), SIZES[{args.size!r}], print, keep=False"
    publish = [sys.executable, "-c", f"from scope_play.bench.published import *; publish({arguments})"]
    image, actions = write_inputs(out)
    options = ["--steps", args.steps, "--offload", args.offload, "--prompt", PROMPT, "--image", image]
    clip = ["generate", "--model", weights, "--actions", actions, "--frames", 5, "--out", out / "clip.mp4", *options]
    clip += [] if args.device is None else ["--device", args.device]
    play = ["play", "--headless", "--model", weights, "--actions", actions, "--out", out / "clips", *options]
    play += [] if args.window is None else ["--window", args.window]
    tasks: list[tuple[str, Callable[[str], Step]]] = [
        ("publish", lambda name: watch(name, publish, quiet)),
        ("download", lambda name: download(name, published, weights, sizes, quiet)),
        ("doctor", lambda name: watch(name, command("doctor", "--json"), quiet)),
        ("verify", lambda name: watch(name, command("verify", "--failures"), quiet)),
        ("generate 5 frames", lambda name: foretold(name, clip, quiet)),
        ("play 2 chunks", lambda name: foretold(name, play, quiet)),
    ]
    step = None
    for name, task in tasks:
        if name == "verify" and args.without_verify:
            continue
        step = done[name] if name in done else task(name)
        yield step
    recorded = step.last_line if step is not None and step.code == 0 else str(out / "clips")
    yield foretold("replay --check", ["replay", recorded, "--check"], quiet)


def download(name: str, published: Path, weights: Path, sizes: Sizes, environment: Mapping[str, str]) -> Step:
    """From a Hub on the loopback interface."""
    from scope_play.bench.loopback_hub import serving
    from scope_play.weights.hashing import HashCache

    with serving({REPOSITORY: published}, HashCache(published.parent / "hashes.json")) as hub:
        offer(hub, published, sizes)
        there = {**environment, "HF_ENDPOINT": hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "600"}
        return watch(name, command("download", "scope", "--dir", weights), there)


def offer(hub: LoopbackHub, folder: Path, sizes: Sizes) -> None:
    """Lets a hub serve what was published, each file made anew when it is asked for."""
    from scope_play.bench.loopback_hub import COMMIT
    from scope_play.bench.published import LISTING, writers

    listing = json.loads((folder.parent / LISTING).read_text("utf-8"))
    make = writers(sizes)
    siblings = [
        {"rfilename": name, "size": file["size"], "lfs": {**file, "pointerSize": 1}} for name, file in listing.items()
    ]
    about = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "private": False, "siblings": siblings}

    def prepare(name: str) -> None:
        if name in make and not (folder / name).exists():
            make[name](folder / name)

    hub.about = lambda repository: json.dumps(about).encode()  # type: ignore[method-assign]
    hub.prepare, hub.sent = prepare, lambda name: (folder / name).unlink(missing_ok=True)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "scope_play.cli", *map(str, words)]


def write_inputs(out: Path) -> tuple[Path, Path]:
    """A picture, and the nine rows of two chunks."""
    import numpy as np
    from PIL import Image

    from scope_play.actions import write_actions

    levels = np.linspace(0, 255, 480 * 832 * 3).reshape(480, 832, 3).astype(np.uint8)
    Image.fromarray(levels).save(out / "first.png")
    rows = np.zeros((9, 10), np.float32)
    rows[:, 7] = -1
    write_actions(out / "rows.parquet", rows)
    return out / "first.png", out / "rows.parquet"


def watch(name: str, words: Sequence[str], environment: Mapping[str, str], said: int | None = None) -> Step:
    """Runs a command to its end, looking at its memory as it goes. Its output goes through."""
    from scope_play.loading.free_memory import own_memory

    began, peak, last = time.perf_counter(), 0, b""
    with subprocess.Popen(words, env=dict(environment), stdout=subprocess.PIPE) as process:
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
        while True:
            running = process.poll() is None
            peak = max(peak, own_memory(Path(f"/proc/{process.pid}/status")))
            piece = process.stdout.read()  # type: ignore[union-attr]
            if piece:
                last = (last + piece)[-4000:]
                sys.stdout.write(piece.decode("utf-8", "replace"))
            if not running:
                break
            time.sleep(0.1)
    lines = last.decode("utf-8", "replace").strip().splitlines()
    return Step(name, time.perf_counter() - began, peak, said, process.returncode, lines[-1] if lines else "")


def foretold(name: str, words: Sequence[object], environment: Mapping[str, str]) -> Step:
    """Asks `scope-play doctor` what a command will take, then runs it."""
    asked = subprocess.run(
        command("doctor", "--json", *words), env=dict(environment), stdout=subprocess.PIPE, text=True, check=False
    )
    said = json.loads(asked.stdout)["peak"] if asked.stdout else None
    return watch(name, command(*words), environment, said)


def show(steps: Sequence[Step]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("step", box=None, pad_edge=False)
    for name in ("time", "peak", "said before", "peak / said", "exit"):
        table.add_column(name, justify="right")
    for step in steps:
        said = ("", "") if step.said is None else (f"{step.said / 2**30:.2f} GiB", f"{step.peak / step.said:.2f}")
        table.add_row(step.name, f"{step.seconds:.0f} s", f"{step.peak / 2**30:.2f} GiB", *said, str(step.code))
    Console().print(table)
