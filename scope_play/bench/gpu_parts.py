"""What `scope-play bench gpu` runs: parts in the order of their worth, each with the time that it may take.

First whether the kernels are right, since the figures of wrong ones say nothing. Then what a player feels: a chunk with
the full decoder, the decoder by itself; the linears by every way, of which all parts behind them use the fastest; the
tiny decoder; where a chunk's time goes; the ways to make it shorter, which are eight bits and longer chunks. Then the
kernels one by one, whole clips, and what only confirms.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

STEPS_OF_RELEASE = 16
"""Denoising passes at which the released weights are said to stay good without guidance."""


@dataclass(frozen=True)
class Part:
    """One process: Python's arguments after the interpreter. `why` is for people; `limit` in seconds."""

    name: str
    why: str
    arguments: tuple[str, ...]
    limit: float = 60.0

    @property
    def folder(self) -> str:
        """Where its log and figures go, below the folder of all."""
        return self.name.replace(" ", "-")

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.arguments])


def parts(folder: Path, checkout: Path | None, *, dry: bool) -> list[Part]:
    """What to run, with the figures below `folder`. Tests need a `checkout` of the source.

    dry: the same parts small, on the processor, where each takes as long as it takes.
    """
    on, model = ("cpu", "small-random") if dry else ("cuda", "scope-random")
    short = ("--chunks", "2", "--repeats", "1", "--window", "2") if dry else ()
    found: list[Part] = []

    def add(name: str, why: str, limit: float, *arguments: str) -> None:
        found.append(Part(name, why, arguments, 1800.0 if dry else limit))

    def bench(name: str, why: str, limit: float, *arguments: str) -> None:
        figures = ("--json", str(folder / name.replace(" ", "-")))
        add(name, why, limit, "-m", "scope_play.cli", "bench", *arguments, *figures)

    def verify(precision: str, why: str, limit: float) -> None:
        if checkout is not None:
            words = ("verify", "--device", on, "--precision", precision, "--failures")
            add(f"verify {precision}", why, limit, "-m", "scope_play.cli", *words)

    stream = ("stream", "--model", model, "--device", on)
    small = ("taew2_2", "wan-small", "--latents", "1", "--size", "32x32") if dry else ("wan", "taew2_2")
    tune = ("--repeats", "1", "--window", "2") if dry else ("--tune",)
    verify("bf16", "the reference's vectors, as it is played", 40)
    if checkout is not None:
        room = checkout / "tests" / "kernels"
        # What the interpreter proves, it proves without a card.
        tests = ("-q", "-p", "no:cacheprovider", str(room), "--ignore", str(room / "test_interpreter.py"))
        add("kernel tests", "the kernels against their twins", 90, "-m", "pytest", *tests)
    bench("stream chunk 1", "what a player waits for: 4 steps, commit, full decoder", 90, *stream, *short)
    bench(
        "decode",
        "the largest part of it, beside the same layers written down plainly",
        60,
        "decode",
        "--device",
        on,
        *small,
    )
    shapes = ("--latents", "1", "--repeats", "1") if dry else ("--tune",)
    bench("products", "a block's linears by every way, the fastest kept", 60, "products", "--device", on, *shapes)
    bench("stream tiny decoder", "the denoiser's own rate", 60, *stream, "--decoder", "tiny", *short)
    bench("profile", "where the time of a chunk goes", 60, "profile", "--device", on, "--chunks", "1" if dry else "3")
    for precision in ("int8",) if dry else ("fp8", "int8"):
        bench(f"stream {precision}", f"{precision} weights", 60, *stream, "--precision", precision, *short)
    bench("stream chunk 3", "twelve frames at once", 60, *stream, "--chunk", "3", *short)
    bench("kernels", "each kernel beside its twin and the floor", 60, "kernels", "--device", on, *tune)
    bench("kernels chunk 3", "the same for three latents", 60, "kernels", "--device", on, "--chunk", "3", *tune)
    bench("stream fp8 cache", "caches in 8 bits", 60, *stream, "--cache", "fp8", *short)
    steps = ("--steps", "3" if dry else str(STEPS_OF_RELEASE))
    bench("stream 16 steps", "as many steps as the released weights want", 90, *stream, *steps, *short)
    for offload, limit in (("none", 90), ("blocks", 240)):
        few = ("--frames", "5", "--steps", "2") if dry else ()
        bench(
            f"clip {offload}",
            f"a whole clip, offload {offload}",
            limit,
            "clip",
            "--offload",
            offload,
            "--device",
            on,
            *few,
        )
    window, step = (("--window", "2"), ("--latents", "2", "--repeats", "1")) if dry else ((), ())
    bench("precision", "the error of 8 bits, block by block", 60, "precision", "--device", on, *window)
    bench("offline", "a solver step beside its arithmetic", 60, "offline", "--device", on, *step)
    verify("fp32", "the reference's vectors without rounding", 60)
    return found
