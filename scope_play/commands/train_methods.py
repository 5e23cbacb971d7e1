"""`scope-play train encode | flow | causal | consistency | dmd | plan`: from recordings to a student that streams."""

from __future__ import annotations

import argparse
from typing import Any

from scope_play.commands.arguments import as_number, as_path

METHODS = {
    "flow": "tune on clips as SCOPE was trained",
    "causal": "teach a network to go on from what was before, so that it streams",
    "consistency": "from any noise level straight to the end of a causal teacher's path: the start for few steps",
    "dmd": "a causal student of few steps, by its own rollouts against the bidirectional teacher",
}


def configure(kinds: Any) -> None:
    _configure_encode(kinds.add_parser("encode", help="recordings to shards of latents, which the others learn from"))
    for kind, what in METHODS.items():
        _configure_method(kinds.add_parser(kind, help=what, description=what))
    _configure_plan(kinds.add_parser("plan", help="what a training takes: memory for each GPU, operations, hours"))


def _configure_encode(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sources", nargs="+", type=as_path, metavar="SOURCE", help="clip folders, CrossFPS tars, LeRobot datasets")
    add("--model", required=True, help="whose autoencoder and text encoder: a folder of weights, a download, or nano")
    add("--out", type=as_path, required=True, metavar="DIR", help="of the shards; what it holds already is kept")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="of the pictures (default: the model's)")
    add("--validation", type=as_number, default=0.02, help="share of games kept apart (default 0.02)")
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--wan", metavar="DIR", help="Wan2.2's parts, if not beside the model")


def _configure_method(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=as_path, required=True, metavar="DIR", help="shards made by train encode")
    add("--start", required=True, help="the network to begin from: a folder of weights, a download, nano")
    add("--teacher", help="consistency: the causal network; dmd: the bidirectional one (default: --start)")
    add("--critic", help="dmd: what the critic begins from (default: the teacher)")
    add("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="merge into --start; repeatable")
    add("--wan", metavar="DIR", help="Wan2.2's parts, if not beside the models")
    add("--out", type=as_path, required=True, metavar="DIR", help="run folder; the result is in its weights/ and lora")
    add("--recipe", type=as_path, metavar="TOML", help="what differs from the recipe that comes with the app")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="such as trainer.lr=1e-4; repeatable")
    add("--steps", type=int, help="stop at this step, counted over all resumed parts")
    add("--minutes", type=as_number, help="stop after this long; a checkpoint is always left")
    add(
        "--cool",
        action="store_true",
        help="let the rate fall to nothing in the last two fifths",
    )
    add("--resume", type=as_path, metavar="DIR", help="go on from this run's newest checkpoint, on any number of ranks")
    add("--seed", type=int, default=0)
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the arithmetic; weights stay fp32")
    add("--checkpoints", action="store_true", help="keep each block's input alone, for long clips on small cards")


def _configure_plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="scope", help="scope, or a folder of weights (default scope; nothing is loaded)")
    add("--method", choices=METHODS, required=True)
    add("--gpus", type=int, default=1)
    add("--memory", type=as_number, default=80.0, metavar="GB", help="of each")
    add("--recipe", type=as_path, metavar="TOML")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    add("--steps", type=int, default=1000, help="for the hours")
    add("--size", type=int, nargs=2, default=(480, 832), metavar=("H", "W"))


def run(args: argparse.Namespace) -> int:
    if args.kind == "encode":
        return _encode(args)
    return _plan(args) if args.kind == "plan" else _train(args)


def _encode(args: argparse.Namespace) -> int:
    from scope_play.files import for_people
    from scope_play.loading.device import pick_device
    from scope_play.train.shards.encode import encode
    from scope_play.train.tune.start import open_start

    start = open_start(args.model, wan=args.wan)
    encoder = start.encoder(tuple(args.size) if args.size else None, str(pick_device(args.device)))
    index = encode(args.sources, args.out, encoder, validation=args.validation)
    frames = sum(4 * (entry.latents - 1) + 1 for entry in index.clips)
    print(
        f"{for_people(args.out)}: {len(index.clips)} clips, {frames} frames, {len(index.captions)} prompts; "
        f"{len(index.left_out)} recordings left out"
    )
    return 0


def _train(args: argparse.Namespace) -> int:
    from scope_play.train.tune.tune import Request, train_method

    request = Request(
        kind=args.kind,
        data=args.data,
        start=args.start,
        out=args.out,
        teacher=args.teacher,
        critic=args.critic,
        loras=tuple(args.lora),
        wan=args.wan,
        recipe=args.recipe,
        words=tuple(args.set),
        steps=args.steps,
        minutes=args.minutes,
        resume=args.resume,
        seed=args.seed,
        device=args.device,
        precision=args.precision,
        checkpoints=args.checkpoints,
        cool=args.cool,
    )
    train_method(request)
    return 0


def _plan(args: argparse.Namespace) -> int:
    from scope_play.train.tune.plan import plan_text

    print(
        plan_text(args.model, args.method, args.gpus, args.memory, args.recipe, args.set, args.steps, tuple(args.size))
    )
    return 0
