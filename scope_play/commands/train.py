"""`scope-play train KIND`: nano's networks, and for SCOPE and its like encoding, tuning and distilling."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scope_play.commands import train_methods
from scope_play.commands.arguments import as_number, as_path

if TYPE_CHECKING:
    from pathlib import Path

    import torch

KINDS = {
    "autoencoder": "nano's: frames to latents and back",
    "world": "nano's: the next latent from the past and the actions, by flow matching",
    "student": "nano's: the same in one or two steps, on its own rollouts",
    "nano": "all three in turn, within --minutes, and export",
}

SHEET_SECONDS = 420.0


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, what in KINDS.items():
        _configure_nano(kinds.add_parser(kind, help=what, description=what))
    train_methods.configure(kinds)


def _configure_nano(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=as_path, required=True, metavar="DIR", help="run folder: metrics, checkpoints, sheets"
    )
    parser.add_argument("--minutes", type=as_number, help="stop after this long; a checkpoint is always left")
    parser.add_argument("--steps", type=int, help="stop at this step, counted over all resumed parts")
    parser.add_argument("--resume", type=as_path, metavar="DIR", help="go on from this run folder's newest checkpoint")
    parser.add_argument(
        "--start",
        type=_as_weights,
        metavar="DIR",
        help="begin with the weights of another run (world -> student), of a model folder, or of nano",
    )
    parser.add_argument(
        "--codec",
        type=_as_weights,
        metavar="DIR",
        help="a run of `train autoencoder`, a folder with codec.safetensors, or nano",
    )
    parser.add_argument(
        "--model",
        type=as_path,
        metavar="JSON",
        help="sizes: an object with `world` and `codec` (or `wan_codec`)",
    )
    parser.add_argument(
        "--recipe", metavar="JSON", help='changes to the recipe, such as {"clips": 4}; for nano, one object a stage'
    )
    parser.add_argument(
        "--clips", type=as_path, metavar="DIR", help="learn from recorded clip folders instead of the arena"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="frame size (default: the codec's, or 96 160)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp32"),
        default="auto",
        help="of the arithmetic; weights stay fp32; auto is bf16 where that is fast",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU: micro-batches computed side by side, one core each"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that play and draw ahead (default: none on a CPU, all cores but two beside a GPU)",
    )
    parser.add_argument(
        "--cool", action="store_true", help="let the rate fall to nothing in the last two fifths (nano always does)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the transformer's blocks (needs a C++ compiler on CPU)"
    )
    parser.add_argument("--no-sheets", action="store_true", help="no validation and no contact sheets")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    return train_methods.run(args) if args.kind not in KINDS else _run_nano(args)


def _run_nano(args: argparse.Namespace) -> int:
    import json

    import torch

    from scope_play.errors import ScopeError
    from scope_play.files import for_people
    from scope_play.loading.device import pick_device
    from scope_play.loading.resolve import is_native
    from scope_play.model.nano_codec.codec import NanoCodec
    from scope_play.train.build import Options, build
    from scope_play.train.export import export_codec, export_native
    from scope_play.train.loop import Budget, Run, require_no_run
    from scope_play.train.optim.precision import fast_bf16
    from scope_play.train.world import WorldTrainer

    device = pick_device(args.device)
    if device.type == "cpu" and args.threads > 1:
        torch.set_num_threads(1)
    try:
        recipe = json.loads(args.recipe) if args.recipe else None
    except json.JSONDecodeError as error:
        raise ScopeError(f"--recipe is not JSON ({error}); give an object such as '{{\"clips\": 4}}'") from error
    options = Options(
        model=args.model,
        codec=args.codec,
        start=args.start,
        clips=args.clips,
        recipe=recipe,
        device=str(device),
        bf16=args.precision == "bf16" or (args.precision == "auto" and fast_bf16(device)),
        threads=args.threads,
        workers=_workers(device) if args.workers is None else args.workers,
        seed=args.seed,
        size=tuple(args.size) if args.size else _frame_size(args.codec or args.start),
        compiled=args.compile,
    )
    budget = Budget(minutes=args.minutes, steps=args.steps)
    sheet_every = None if args.no_sheets else SHEET_SECONDS
    if args.kind == "nano":
        from scope_play.train.nano import train_nano

        train_nano(args.out, options, budget, resume=args.resume, sheet_every=sheet_every)
        return 0
    if args.resume is None or args.resume.resolve() != args.out.resolve():
        require_no_run(args.out)
    trainer = build(args.kind, options)
    loop = Run(args.out, trainer, sheet_every=sheet_every)
    if args.resume is not None:
        loop.resume(args.resume)
    if args.cool:
        from scope_play.train.nano import fit_and_cool

        fit_and_cool(loop, budget)
    else:
        loop.fit(budget)
    if isinstance(trainer, WorldTrainer) and isinstance(trainer.codec, NanoCodec):
        export_native(args.out, trainer.codec, args.out / "weights", size=options.size)
    elif args.kind == "autoencoder" and args.start is not None and is_native(args.start):
        export_codec(args.out, args.start, args.out / "weights")
    else:
        return 0
    print(f"to play it: scope-play play --model {for_people(args.out / 'weights')}")
    return 0


def _as_weights(text: str) -> Path:
    """A folder, or the name of weights that come with the app where no such folder is."""
    from scope_play.weights.catalog import NANO_MODELS, nano_folder

    path = as_path(text)
    return nano_folder(text) if text in NANO_MODELS and not path.exists() else path


def _frame_size(folder: Path | None) -> tuple[int, int]:
    """Of what the codec in a model folder draws; otherwise that of the arena."""
    from scope_play.loading.load import frame_size
    from scope_play.loading.resolve import is_native, resolve

    return frame_size(resolve(folder)) if folder is not None and is_native(folder) else (96, 160)


def _workers(device: torch.device) -> int:
    import os

    return 0 if device.type == "cpu" else max(1, (os.cpu_count() or 1) - 2)
