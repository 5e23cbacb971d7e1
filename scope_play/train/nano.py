"""All of nano in one time-boxed command: autoencoder, world, student, export.

Each stage is a run folder below `out` and can be resumed, so that a job cut into several leases goes on where it
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scope_play.train.build import Options, build, load_nano_codec
from scope_play.train.export import export_native
from scope_play.train.loop import Budget, Run, require_no_run

SHARES = {"autoencoder": 0.35, "world": 0.45, "student": 0.20}
FALL = 0.4
"""Share of a stage in which the learning rate falls to nothing."""


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

    `options.start` is a model whose networks go on from where they are. With `options.codec` the autoencoder is taken
    from there and its share goes to the others. `resume` is the `out` of an earlier call: the stage it stopped in goes
    on, and those before it are done. A budget of steps gives each stage its share of them. `options.recipe` has one
    object for each stage to change.
    """
    begun = time.monotonic()
    stages = [stage for stage in SHARES if not (stage == "autoencoder" and options.codec)]
    total = sum(SHARES[stage] for stage in stages)
    home = {stage: out / stage for stage in stages}
    reached = [stage for stage in stages if resume is not None and any((resume / stage).glob("checkpoint-*"))]
    if resume is not None:
        home |= {stage: resume / stage for stage in reached[:-1]}
    for stage in stages:
        if stage not in reached:
            require_no_run(home[stage])
    for position, stage in enumerate(stages):
        if stage in reached[:-1]:
            continue
        codec = None if stage == "autoencoder" else options.codec or home["autoencoder"]
        start = home["world"] if stage == "student" else options.start
        settings = replace(options, codec=codec, start=start, recipe=(options.recipe or {}).get(stage))
        loop = Run(home[stage], build(stage, settings), sheet_every=sheet_every, report=report)
        if resume is not None and stage in reached:
            loop.resume(resume / stage)
        report(f"{stage}: from step {loop.step}")
        left = sum(SHARES[later] for later in stages[position:])
        minutes_gone = (time.monotonic() - begun) / 60
        fit_and_cool(loop, _part_of(budget, SHARES[stage] / left, minutes_gone, SHARES[stage] / total))
        if stage != "autoencoder":
            export_native(home[stage], load_nano_codec(settings), out / "weights", size=options.size)


def _part_of(budget: Budget, of_time_left: float, minutes_gone: float, of_steps: float) -> Budget:
    return Budget(
        minutes=None if budget.minutes is None else max(0.0, budget.minutes - minutes_gone) * of_time_left,
        steps=None if budget.steps is None else max(1, round(budget.steps * of_steps)),
    )


def fit_and_cool(loop: Run[Any], budget: Budget) -> None:
    """Spends the budget, the last part of it while the rate falls. What is left of its minutes is turned into steps by
    the pace so far."""
    if loop.cooling is not None:  # resumed where it was falling
        loop.fit(Budget(budget.minutes, loop.cooling[1]))
        return
    begun, first = time.monotonic(), loop.step
    minutes, steps = (None if whole is None else whole * (1 - FALL) for whole in (budget.minutes, budget.steps))
    loop.fit(Budget(minutes, None if steps is None else round(steps)))
    spent = (time.monotonic() - begun) / 60
    if budget.minutes is None:
        rest, last = None, budget.steps or loop.step
    else:
        rest = max(0.0, budget.minutes - spent)
        last = loop.step + round((loop.step - first) * rest / max(spent, 1e-6))
    if last > loop.step:
        loop.cool(loop.step, last)
        loop.fit(Budget(rest, last))
