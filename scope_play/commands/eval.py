"""`scope-play eval`: measure a world against the arena."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scope_play.commands.arguments import as_number, as_path

if TYPE_CHECKING:
    from scope_play.evaluate.evaluate import EvalConfig
    from scope_play.session.interfaces import WorldLike

WIDTH = 150  # of a table in a file or a pipe, in characters


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano", help="nano, a folder of weights, or arena: the simulator itself, which scores best")
    add(
        "--out",
        type=as_path,
        default="eval",
        metavar="DIR",
        help="for table, JSON, sheets, videos (default ./eval)",
    )
    add(
        "--actions",
        type=as_path,
        metavar="PARQUET",
        help="play these rows from every seed, instead of mixed behaviours",
    )
    add(
        "--seeds",
        type=int,
        nargs="+",
        metavar="S",
        help="starts of mixed and long play (default: 32 that training never used)",
    )
    add(
        "--sealed",
        action="store_true",
        help="other starts, which no decision may be taken by: for figures that are published",
    )
    add("--seconds", type=as_number, default=60.0, help="of the long play that drift is measured on (default 60)")
    add("--quick", action="store_true", help="a quarter of the starts and 15 s of long play: for a look while training")
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--steps", type=int, help="denoising passes a chunk (default: as the weights say)")
    add("--mode", help="of streaming: cached or window, for bidirectional weights (default: as the weights say)")
    add(
        "--offline",
        action="store_true",
        help="do not stream: make every trial, of 4 s at most, in one piece, as generate does (bidirectional weights)",
    )
    add(
        "--trials",
        nargs="+",
        choices=("mixed", "still", "movement", "pairs", "long"),
        help="play these alone (default: all)",
    )
    add("--probe", type=as_path, metavar="DIR", help="use the probe in this folder instead of the shipped one")
    add("--teach-probe", type=as_number, metavar="MINUTES", help="first teach a new probe, on the CPU, into --probe")


def run(args: argparse.Namespace) -> int:
    import sys
    from dataclasses import replace

    from rich.console import Console

    from scope_play.actions import read_actions
    from scope_play.errors import ScopeError
    from scope_play.evaluate import report
    from scope_play.evaluate.evaluate import EvalConfig, Evaluation
    from scope_play.evaluate.probe import load_probe, save_probe
    from scope_play.evaluate.trials import SEALED_SEED

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if args.teach_probe is not None:
        from scope_play.evaluate.train_probe import train_probe

        if args.probe is None:
            raise ScopeError("--teach-probe needs --probe DIR, the folder to write the new probe to.")
        save_probe(args.probe, *train_probe(args.teach_probe))
    probe, card = load_probe(args.probe)
    config = EvalConfig(seconds=args.seconds)
    if args.sealed:
        if args.seeds or args.quick:
            raise ScopeError("--sealed plays its own starts, all of them; leave out --seeds and --quick.")
        sealed = tuple(range(SEALED_SEED, SEALED_SEED + len(config.seeds)))
        config = replace(config, seeds=sealed, first_seed=SEALED_SEED)
    if args.quick:
        few = config.seeds[: len(config.seeds) // 4]
        config = replace(config, seeds=few, long_seeds=2, scripted=3, seconds=min(args.seconds, 15.0))
    if args.seeds:
        config = replace(config, seeds=tuple(args.seeds))
    if args.trials:
        config = replace(config, trials=tuple(args.trials))
    rows = read_actions(args.actions) if args.actions else None
    world = _open_world(args)
    if args.offline:
        config = _of_one_clip(config, world)
    args.out.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(
        world, config, probe=probe, rows=rows, out=args.out, say=lambda text: console.print(f"[dim]{text}")
    )
    figures = evaluation.run()
    setup = {**evaluation.setup(), "probe": card.get("held_out", {})}
    report.write_json(args.out / "eval.json", setup, figures)
    table = report.as_table(f"{args.model} against the arena", figures)
    console.print(table)
    with (args.out / "eval.txt").open("w") as file:
        Console(file=file, width=WIDTH).print(table)
    console.print(f"written to {args.out}")
    return 0


def _open_world(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    if args.model == "arena":
        from scope_play.arena.world import ArenaWorld

        return ArenaWorld(96, 160, varied=True)
    from scope_play.world import World

    world = World.load(args.model, device=args.device, steps=args.steps, mode=args.mode)
    if not args.offline:
        return world
    from scope_play.evaluate.offline import OfflineWorld
    from scope_play.sampling.clip import Sampling

    return OfflineWorld(world.model, steps=args.steps or Sampling.steps)


def _of_one_clip(config: EvalConfig, world: WorldLike) -> EvalConfig:
    """No trial longer than the clip that `world` makes in one piece."""
    from dataclasses import replace

    clip = world.spec.frames_per_chunk / world.spec.fps
    lengths = ("seconds", "mixed_seconds", "still_seconds")
    return replace(config, **{name: min(clip, getattr(config, name)) for name in lengths})
