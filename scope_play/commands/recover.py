"""`scope-play recover`: an interrupted recording becomes a valid clip."""

from __future__ import annotations

import argparse
import sys

from scope_play.commands.arguments import as_path
from scope_play.errors import ScopeError


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("partials", nargs="+", type=as_path, metavar="PARTIAL", help="a recording whose name ends in .partial")
    add("--out", type=as_path, metavar="DIR", help="make the clip here, for instance because the disk is full")


def run(args: argparse.Namespace) -> int:
    from scope_play.recording.metadata import read_metadata
    from scope_play.recording.recover import recover

    failed = False
    for partial in args.partials:
        try:
            finished = recover(partial, into=args.out)
        except ScopeError as error:
            print(f"scope-play: {error}", file=sys.stderr)
            failed = True
            continue
        header = read_metadata(finished.path / "metadata.json").header
        lost = finished.chunks_lost * header.frames_per_chunk / header.fps
        note = f"; the last {lost:.1f} s had not reached the disk" if lost else ""
        print(f"{finished.path}: {finished.frames} frames, {finished.frames / header.fps:.1f} s{note}")
    return 2 if failed else 0
