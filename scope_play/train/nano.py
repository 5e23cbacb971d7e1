"""All of nano in one time-boxed command: autoencoder, world, student, export.

Each stage is a run folder below `out` and can be resumed, so that a job cut into several leases goes on where it
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scope_play.train.build import Options, build, load_tiny
from scope_play.train.common import Budget, Run
from scope_play.train.export import export_native

SHARES = {"autoencoder": 0.35, "world": 0.45, "student": 0.20}


def train_nano(
    out: Path,
    options: Options,
    budget: Budget,
    *,
    resume: Path | None = None,
    sheet_every: float | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Runs the stages in turn within `budget` and exports to `out/weights` after the last two.

    With `options.codec` the autoencoder is taken from there and its share goes to the others. `resume` is the `out` of
    an earlier call: the stage it stopped in goes on, and those before it are done. A budget of steps gives each stage
    its share of them. `options.recipe` has one object for each stage to change.
    """
    begun = time.monotonic()
    stages = [stage for stage in SHARES if not (stage == "autoencoder" and options.codec)]
    total = sum(SHARES[stage] for stage in stages)
    home = {stage: out / stage for stage in stages}
    reached = [stage for stage in stages if resume is not None and any((resume / stage).glob("checkpoint-*"))]
    if resume is not None:
        home |= {stage: resume / stage for stage in reached[:-1]}
    for position, stage in enumerate(stages):
        if stage in reached[:-1]:
            continue
        codec = None if stage == "autoencoder" else options.codec or home["autoencoder"]
        start = home["world"] if stage == "student" else None
        settings = replace(options, codec=codec, start=start, recipe=(options.recipe or {}).get(stage))
        loop = Run(home[stage], build(stage, settings), sheet_every=sheet_every, report=report)
        if resume is not None and stage in reached:
            loop.resume(resume / stage)
        report(f"{stage}: from step {loop.step}")
        left = sum(SHARES[later] for later in stages[position:])
        minutes_gone = (time.monotonic() - begun) / 60
        loop.fit(_part_of(budget, SHARES[stage] / left, minutes_gone, SHARES[stage] / total))
        if stage != "autoencoder":
            export_native(home[stage], load_tiny(settings), out / "weights", size=options.size)


def _part_of(budget: Budget, of_time_left: float, minutes_gone: float, of_steps: float) -> Budget:
    return Budget(
        minutes=None if budget.minutes is None else max(0.0, budget.minutes - minutes_gone) * of_time_left,
        steps=None if budget.steps is None else max(1, round(budget.steps * of_steps)),
    )
