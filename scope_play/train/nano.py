"""All of nano in one time-boxed command: autoencoder, world, student, export.

Each stage is a run folder below `out` and can be resumed; a stage that has a checkpoint and whose share of the time
is used up is passed over, so that a job cut into several leases goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scope_play.train.build import Options, build, clip_source, load_tiny
from scope_play.train.common import Budget, Run
from scope_play.train.export import export_native

SHARES = {"autoencoder": 0.15, "world": 0.45, "student": 0.40}


def train_nano(
    out: Path, options: Options, budget: Budget, *, resume: Path | None = None, report: Callable[[str], None] = print
) -> None:
    """Runs the stages in turn within `budget` and exports to `out/weights` after the last two.

    With `options.codec` the autoencoder is taken from there and its share goes to the others. A budget of steps gives
    each stage its share of them.
    """
    begun = time.monotonic()
    shares = {stage: share for stage, share in SHARES.items() if not (stage == "autoencoder" and options.codec)}
    codec = options.codec or out / "autoencoder"
    left = sum(shares.values())
    for stage, share in shares.items():
        settings = replace(options, codec=None if stage == "autoencoder" else codec)
        if stage == "student":
            settings = replace(settings, start=out / "world")
        loop = Run(out / stage, build(stage, settings), report=report)
        if resume is not None and any((resume / stage).glob("checkpoint-*")):
            loop.resume(resume / stage)
        report(f"{stage}: from step {loop.step}")
        loop.fit(_part_of(budget, share / left, (time.monotonic() - begun) / 60, share / sum(shares.values())))
        left -= share
        if stage != "autoencoder":
            export_native(out / stage, load_tiny(settings, clip_source(settings)), out / "weights", size=options.size)


def _part_of(budget: Budget, of_time_left: float, minutes_gone: float, of_steps: float) -> Budget:
    return Budget(
        minutes=None if budget.minutes is None else max(0.0, budget.minutes - minutes_gone) * of_time_left,
        steps=None if budget.steps is None else max(1, round(budget.steps * of_steps)),
    )
