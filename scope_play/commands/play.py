"""`scope-play play`: the app, with a window or without."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from scope_play.commands.arguments import (
    add_memory_options,
    add_stream_options,
    add_weight_options,
    as_number,
    as_path,
)
from scope_play.errors import ScopeError
from scope_play.serve.config import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from scope_play.loading.outlook import Outlook
    from scope_play.loading.request import LoadRequest
    from scope_play.play.engine.protocol import MakeEngine
    from scope_play.play.settings import Settings
    from scope_play.play.stored import Stored

REMOTE = "elsewhere"
"""What the start screen calls a model that a server has chosen."""


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
    add(
        "--connect",
        metavar="URL",
        help="play in a world that runs elsewhere: the address that scope-play serve printed",
    )
    add("--headless", action="store_true", help="no window: play --actions into --out")
    add("--actions", type=as_path, metavar="PARQUET", help="with --headless: what to do")
    add("--out", type=as_path, metavar="DIR", help="with --headless: the clip folder's parent")


def run(args: argparse.Namespace) -> int:
    from scope_play.play.stored import read_stored

    if args.controls:
        return _print_controls()
    stored = read_stored()
    settings = settings_of(args, stored.settings)
    if args.headless:
        return _run_headless(args, settings)
    if args.actions or args.out:
        raise ScopeError("--actions and --out belong to --headless; add it, or leave them out.")
    return _run_window(args, settings, stored)


def look_ahead(args: argparse.Namespace) -> Outlook:
    """What `run` will take. Raises ScopeError as it would."""
    from scope_play.loading.outlook import expect
    from scope_play.play.stored import read_stored

    if args.connect:
        raise ScopeError("with --connect the model runs elsewhere, and takes no memory here; leave it out")
    settings = settings_of(args, read_stored().settings)
    return expect(request_for(args, settings)(settings.model))


def settings_of(args: argparse.Namespace, stored: Settings) -> Settings:
    """As they were stored, but for what is asked for."""
    from scope_play.play.settings import STREAM_SETTINGS

    chosen = {
        "model": args.model,
        "seed": args.seed,
        "mode": args.input,
        "stream_mode": args.mode,
        **{name: getattr(args, name) for name in STREAM_SETTINGS},
        "fullscreen": args.fullscreen,
        "window_size": args.window_size,
    }
    return replace(stored, **{key: value for key, value in chosen.items() if value is not None})


def _print_controls() -> int:
    from scope_play.play.input.bindings import ControllerMap, default_path, load_map, write_map
    from scope_play.play.input.bindings_text import legend_text

    controls, path = load_map(), default_path()
    if not path.exists():
        write_map(ControllerMap())
    print(legend_text(controls))
    print(f"\nTo change them, edit {path}")
    return 0


def _run_window(args: argparse.Namespace, settings: Settings, stored: Stored) -> int:
    from scope_play.play.app import App, Options
    from scope_play.play.engine.local import LocalEngine
    from scope_play.weights.catalog import NANO_MODELS

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
        complaints=stored.complaints,
    )
    make_engine: MakeEngine = LocalEngine
    if args.connect:
        make_engine = connect(args.connect)
        options = replace(options, models=(REMOTE,), model=REMOTE)
        stored = replace(stored, path=None)  # not a model to begin with next time
    app = App(
        options,
        settings,
        make_engine=make_engine,
        request=request_for(args, settings),
        settings_path=stored.path,
        stored=stored.settings,
        controls=stored.controls,
    )
    return app.run()


def connect(url: str) -> MakeEngine:
    """What makes an engine of the server at `url`."""
    try:
        import websockets  # noqa: F401 - told here, and not once the window is open
    except ImportError as error:
        raise ScopeError("--connect needs websockets; install it with pip install 'scope-play[serve]'.") from error
    from scope_play.play.engine.remote import connected

    token = os.environ.get(TOKEN_VARIABLE)
    return connected(url if "#" in url or not token else f"{url}#{token}")


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
            **({"make_engine": connect(args.connect)} if args.connect else {}),
        )
    print(clip)
    return 0


def request_for(args: argparse.Namespace, settings: Settings) -> Callable[[str], LoadRequest]:
    """How to load a model by its name: the chosen one as the settings say, the menu's others as they come."""
    from scope_play.loading.request import LoadRequest
    from scope_play.weights.catalog import NANO_MODELS

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
            smaller=NANO_MODELS[1] if model == NANO_MODELS[0] and not (args.model or args.headless) else None,
        )

    return request
