"""`scope-play export`: recordings as a dataset that others can train on."""

from __future__ import annotations

import argparse

from scope_play.commands.arguments import as_path


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("clips", nargs="+", type=as_path, metavar="CLIP", help="clip folders, or folders of clip folders")
    add("--format", choices=("lerobot",), default="lerobot", help="LeRobot dataset, format version 3.0")
    add(
        "--out",
        type=as_path,
        required=True,
        metavar="DIR",
        help="the dataset's folder, which must not exist yet",
    )
    add("--task", default="play", help="the task of clips without a prompt")


def run(args: argparse.Namespace) -> int:
    from scope_play.recording.clip import find_clips
    from scope_play.recording.lerobot import export

    clips = find_clips(args.clips)
    episodes = export(clips, args.out, args.task)
    print(f"{args.out}: {episodes} episodes from {len(clips)} clips")
    return 0
