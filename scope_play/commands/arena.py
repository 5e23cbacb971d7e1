"""`scope-play arena`: the app, with the simulator in place of a model."""

from __future__ import annotations

import argparse

from scope_play.commands.arguments import as_number, as_path


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seed", type=int, default=0, help="chooses where you start")
    add("--size", default="480x832", metavar="HxW", help="of the picture; nano sees 96x160 (default 480x832)")
    add("--record", type=as_path, metavar="DIR", help="record into a folder below DIR from the first frame on")
    add("--gamepad", choices=("sdl", "inputs", "keyboard"), help="where the actions come from")
    add("--fullscreen", action="store_true", default=None)
    add("--window-size", metavar="WxH", help="for example 1280x720")
    add("--demo", action="store_true", help="plays by itself")
    add("--seconds", type=as_number, help="leave after so long")


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from scope_play.images import parse_size
    from scope_play.loading.request import LoadRequest
    from scope_play.play.app import App, Options
    from scope_play.play.stored import read_stored

    height, width = parse_size(args.size, "HEIGHTxWIDTH", least=(16, 16), most=4096)
    chosen = {"fullscreen": args.fullscreen, "window_size": args.window_size}
    stored = read_stored()
    settings = replace(stored.settings, **{key: value for key, value in chosen.items() if value is not None})
    options = Options(
        models=("arena",),
        model="arena",
        seed=args.seed,
        record=args.record,
        gamepad="scripted" if args.demo else args.gamepad,
        autoplay=args.demo,
        seconds=args.seconds,
        complaints=stored.complaints,
    )
    return App(
        options,
        settings,
        request=lambda model: LoadRequest(model, size=(height, width)),
        settings_path=stored.path,
        stored=stored.settings,
        controls=stored.controls,
    ).run()
