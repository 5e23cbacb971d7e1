"""`scope-play play`: the app, with a window or without."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.commands.arguments import as_number, as_path
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scope_play.loading.request import LoadRequest
    from scope_play.play.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", help="nano (the default) or a folder of weights")
    add("--image", type=as_path, help="a picture to start from")
    add("--prompt", help="for models that take text")
    add("--seed", type=int, help="of the noise; the same seed and actions give the same frames")
    add("--record", type=as_path, metavar="DIR", help="record into a folder below DIR from the first frame on")
    add("--gamepad", choices=("sdl", "inputs", "keyboard"), help="where the actions come from")
    add(
        "--input",
        choices=("exact", "responsive"),
        help="rows as the pad moved, or the newest state for the whole chunk",
    )
    add_stream_options(parser)
    add_memory_options(parser)
    add_weight_options(parser)
    add("--fullscreen", action="store_true", default=None)
    add("--window-size", metavar="WxH", help="for example 1280x720")
    add("--demo", action="store_true", help="plays by itself")
    add("--seconds", type=as_number, help="leave after so long; with --demo counted from the first moment of the game")
    add("--controls", action="store_true", help="print what every control does and the file that changes it, and leave")
    add("--headless", action="store_true", help="no window: play --actions into --out")
    add("--actions", type=as_path, metavar="PARQUET", help="with --headless: what to do")
    add("--out", type=as_path, metavar="DIR", help="with --headless: the clip folder's parent")


def add_memory_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The options that trade closeness to the weights for memory and speed, as `World.load` takes them."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp8", "int8"),
        help="of the weights (SCOPE: bf16, nano: fp32); int8 halves them on any card, fp8 on Ada, Hopper and newer",
    )
    parser.add_argument("--cache", choices=("full", "fp8"), help="fp8: half the memory for what SCOPE remembers")
    parser.add_argument(
        "--decoder", choices=("full", "tiny"), help="tiny: SCOPE's frames from taew2_2, in a few ms, at preview quality"
    )


def add_stream_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """How a world is denoised, as `World.load` takes it."""
    add = parser.add_argument
    add(
        "--mode",
        choices=("cached", "window"),
        help="cached: against keys and values of what was; window: it runs again",
    )
    add("--steps", type=int, help="denoising passes a chunk; fewer is faster and coarser")
    add("--guidance", type=as_number, help="how strongly the prompt acts; 1 is off")
    add("--action-guidance", type=as_number, help="how strongly the pad acts; 1 is off")
    add("--window", type=int, help="latents remembered, of four frames each")
    add("--chunk", type=int, help="latents made together")
    add("--shift", type=as_number, help="larger spends more passes at high noise")


def add_weight_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Where SCOPE's parts are, and where they go, as `World.load` takes it."""
    parser.add_argument(
        "--offload",
        choices=("auto", "none", "blocks", "disk"),
        help="blocks: keep SCOPE's blocks in host memory and stream them through the GPU, for cards of 12-24 GB; disk: "
        "leave them in their files, for hosts with little memory (default: what fits; play on a GPU: none)",
    )
    parser.add_argument(
        "--wan", metavar="DIR", help="Wan2.2's autoencoder, text encoder and tokenizer, if not beside the model"
    )
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:SCALE]",
        help="merge into the transformer; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    from scope_play.play import settings as settings_file
    from scope_play.play.settings import STREAM_SETTINGS

    if args.controls:
        return _print_controls()
    path: Path | None = settings_file.settings_path()
    complaints = []
    try:
        stored = settings_file.load(settings_file.settings_path())
    except ScopeError as error:
        # The game goes on with the defaults; the file is left as it is, to be mended.
        complaints.append(str(error))
        path, stored = None, settings_file.Settings()
    chosen = {
        "model": args.model,
        "seed": args.seed,
        "mode": args.input,
        "stream_mode": args.mode,
        **{name: getattr(args, name) for name in STREAM_SETTINGS},
        "fullscreen": args.fullscreen,
        "window_size": args.window_size,
    }
    settings = replace(stored, **{key: value for key, value in chosen.items() if value is not None})
    if args.headless:
        return _run_headless(args, settings)
    if args.actions or args.out:
        raise ScopeError("--actions and --out belong to --headless; add it, or leave them out.")
    return _run_window(args, settings, stored, path, complaints)


def _print_controls() -> int:
    from scope_play.play.input.bindings import ControllerMap, default_path, load_map, write_map
    from scope_play.play.input.bindings_text import legend_text

    controls, path = load_map(), default_path()
    if not path.exists():
        write_map(ControllerMap())
    print(legend_text(controls))
    print(f"\nTo change them, edit {path}")
    return 0


def _run_window(
    args: argparse.Namespace, settings: Settings, stored: Settings, path: Path | None, complaints: list[str]
) -> int:
    from scope_play.play.app import App, Options
    from scope_play.play.input.bindings import ControllerMap, load_map
    from scope_play.weights.catalog import NANO_MODELS

    try:
        controls = load_map()
    except ScopeError as error:
        complaints.append(str(error))
        controls = ControllerMap()
    options = Options(
        models=tuple(dict.fromkeys((*NANO_MODELS, settings.model))),
        model=settings.model,
        image=str(args.image or ""),
        prompt=args.prompt or "",
        seed=settings.seed,
        record=args.record,
        gamepad="scripted" if args.demo else args.gamepad,
        autoplay=args.demo,
        seconds=args.seconds,
        complaints=tuple(complaints),
    )
    app = App(
        options,
        settings,
        request=request_for(args, settings),
        settings_path=path,
        stored=stored,
        controls=controls,
    )
    return app.run()


def _run_headless(args: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from scope_play.play.engine.protocol import Begin
    from scope_play.play.headless import play_file

    if not (args.actions and args.out):
        raise ScopeError("--headless needs --actions, what to do, and --out, where to; give both.")
    begin = Begin(args.image, args.prompt, settings.seed)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None)
        clip = play_file(
            request_for(args, settings)(settings.model),
            begin,
            args.actions,
            args.out,
            lambda done, total: bar.update(task, description="playing", completed=done, total=total),
        )
    print(clip)
    return 0


def request_for(args: argparse.Namespace, settings: Settings) -> Callable[[str], LoadRequest]:
    """How to load a model by its name: the chosen one as the settings say, the menu's others as they come."""
    from scope_play.loading.request import LoadRequest

    def request(model: str) -> LoadRequest:
        if model != settings.model:
            return LoadRequest(model, steps=args.steps)
        return LoadRequest(
            model,
            **settings.stream_changes(),
            precision=args.precision,
            cache=args.cache,
            decoder=args.decoder,
            offload=args.offload,
            wan=args.wan,
            lora=tuple(args.lora),
        )

    return request
