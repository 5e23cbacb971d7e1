"""`scope-play arena`: the app, with the simulator in place of a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seed", type=int, default=0, help="chooses where you start")
    add("--size", default="480x832", metavar="HxW", help="of the picture; nano sees 96x160 (default 480x832)")
    add("--record", type=Path, metavar="DIR", help="record into a folder below DIR from the first frame on")
    add("--gamepad", choices=("sdl", "inputs", "keyboard"), help="where the actions come from")
    add("--fullscreen", action="store_true", default=None)
    add("--window-size", metavar="WxH", help="for example 1280x720")
    add("--demo", action="store_true", help="plays by itself")
    add("--seconds", type=float, help="leave after so long")


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from scope_play.play import settings as settings_file
    from scope_play.play.app import App, Options
    from scope_play.play.input.bindings import load_map

    height, width = parse_height_width(args.size)
    chosen = {"fullscreen": args.fullscreen, "window_size": args.window_size}
    settings = settings_file.load(settings_file.settings_path())
    settings = replace(settings, **{key: value for key, value in chosen.items() if value is not None})
    options = Options(
        models=("arena",),
        model="arena",
        seed=args.seed,
        record=args.record,
        gamepad="scripted" if args.demo else args.gamepad,
        autoplay=args.demo,
        seconds=args.seconds,
    )

    def open_world(model: str) -> Any:
        from scope_play.arena.world import ArenaWorld

        return ArenaWorld(height, width)

    return App(options, settings, open_world, controls=load_map()).run()


def parse_height_width(text: str) -> tuple[int, int]:
    """ "96x160" as (96, 160): height first, both positive, at most 4096."""
    from scope_play.errors import ScopeError

    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ScopeError(f"--size {text!r} is not HEIGHTxWIDTH; give for example 96x160.")
    if not (16 <= int(height) <= 4096 and 16 <= int(width) <= 4096):
        raise ScopeError(f"--size {text!r} is out of range; each side must be 16 to 4096.")
    return int(height), int(width)
