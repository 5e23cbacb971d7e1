"""`scope-play replay`: run a recording again, check it, save it, look at it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from scope_play.commands.arguments import add_memory_options, as_path
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.loading.outlook import Outlook
    from scope_play.loading.request import LoadRequest
    from scope_play.recording.clip import Clip
    from scope_play.recording.replay import Difference, Numbered, Script
    from scope_play.session.interfaces import WorldLike

DIFFERENT = 1
LOADING = ("model", "device", "precision", "cache", "decoder")
"""What of a model can be chosen otherwise than it was recorded."""


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "recording",
        type=as_path,
        metavar="CLIP",
        help="a clip folder, or a SCOPE or CrossFPS action file (parquet)",
    )
    add("--out", type=as_path, metavar="MP4", help="write the video anew, at full quality of the model's frames")
    add("--check", action="store_true", help="compare every frame with the recording (the default for a clip)")
    add("--show", action="store_true", help="play it in a window")
    add("--model", help="nano or a folder of weights; without it what the recording was made with")
    add("--image", type=as_path, help="for an action file: the picture to start from")
    add("--seed", type=int, help="of the noise, instead of the recording's")
    add("--prompt", help="for an action file and a model that takes text")
    add("--device", help="cpu, cuda or cuda:N; without it as recorded, if there is such a device")
    add_memory_options(parser)


def run(args: argparse.Namespace) -> int:
    from scope_play.recording.clip import read_clip

    if args.out is not None and args.out.suffix.lower() != ".mp4":
        raise ScopeError(f"--out {args.out} must end in .mp4.")
    if _is_own(args):
        return _replay_clip(args, read_clip(args.recording, check_video=False))
    return _replay_file(args)


def look_ahead(args: argparse.Namespace) -> Outlook:
    """What `run` will take. Raises ScopeError as it would."""
    from scope_play.loading.outlook import expect
    from scope_play.recording.clip import read_clip
    from scope_play.world import as_recorded

    if not _is_own(args):
        return expect(_request_of(args))
    header = read_clip(args.recording, check_video=False).metadata.header
    return expect(as_recorded(header, **{name: getattr(args, name) for name in LOADING}))


def _is_own(args: argparse.Namespace) -> bool:
    """Whether the recording is a clip of this app, finished or not."""
    from scope_play.recording.clip import is_clip
    from scope_play.recording.crossfps import is_crossfps

    own = is_clip(args.recording) and not is_crossfps(args.recording)
    return own or args.recording.name.endswith(".partial")


def _request_of(args: argparse.Namespace) -> LoadRequest:
    """For an action file, which says nothing of a model."""
    from scope_play.loading.request import LoadRequest

    chosen = {name: getattr(args, name) for name in LOADING}
    return LoadRequest(**chosen | {"model": args.model or "nano"})


def _replay_clip(args: argparse.Namespace, clip: Clip) -> int:
    from scope_play.recording.replay import clip_script, setup_differences
    from scope_play.world import open_like

    for name in ("image", "prompt"):
        if getattr(args, name) is not None:
            raise ScopeError(f"--{name} is for action files; {clip.path} has its own {name}.")
    script = clip_script(clip)
    if args.seed is not None:
        script = replace(script, seed=args.seed)
    world = open_like(clip.metadata.header, **{name: getattr(args, name) for name in LOADING})
    check = args.check or not (args.out or args.show)
    difference = _run(args, script, world, check)
    if not check:
        return 0
    if difference is None:
        print(f"same: all {clip.metadata.frames} frames of {clip.path.name} are identical")
        return 0
    where, seconds = f"frame {difference.frame}", difference.frame / clip.metadata.header.fps
    print(f"different: {where} ({seconds:.2f} s, chunk {difference.chunk}) is the first that is not as recorded")
    changed = setup_differences(clip.metadata.header, world)
    if args.seed is not None and args.seed != clip.metadata.header.seed:
        changed.insert(0, f"seed {args.seed}, recorded with {clip.metadata.header.seed}")
    for clause in changed:
        print(f"  {clause}")
    if not changed:
        print("  the setup is the same: the actions or the first image were changed, or the build is not deterministic")
    return DIFFERENT


def _replay_file(args: argparse.Namespace) -> int:
    from scope_play.recording.crossfps import first_frame, is_crossfps, read_crossfps
    from scope_play.recording.replay import file_script, find_actions

    actions = find_actions(args.recording)
    image, prompt = args.image, args.prompt
    if args.check:
        raise ScopeError(
            f"{args.recording} is no clip of this app, so it has no frame hashes to --check; leave it out."
        )
    if not (args.out or args.show):
        raise ScopeError("Say what to do with the replay: --out FILE.mp4 or --show.")
    from scope_play.world import open_world

    world = open_world(_request_of(args))
    if is_crossfps(args.recording):
        image = first_frame(args.recording) if image is None else image
        if prompt is None and world.spec.has_text:
            prompt = read_crossfps(args.recording).metadata.header.prompt
    script = file_script(
        actions,
        image=image,
        seed=args.seed or 0,
        prompt=prompt,
        frames_per_chunk=world.spec.frames_per_chunk,
    )
    _run(args, script, world, check=False)
    return 0


def _run(args: argparse.Namespace, script: Script, world: WorldLike, check: bool) -> Difference | None:
    """Makes all frames that are wanted; returns the first difference if asked to `check`."""
    from scope_play.recording.replay import first_difference, play, save

    frames: Iterator[Numbered] = play(script, world)
    if args.out is not None:
        frames = save(frames, args.out, world.spec.fps)
    if args.show:
        from scope_play.play.ui.replay_viewer import show

        frames = show(frames, world.spec.fps, args.recording.name)
    frames = _with_progress(frames, len(script.beats) * script.frames_per_chunk + 1)
    difference = first_difference(script, frames) if check else None
    if not check or args.out is not None or args.show:
        for _ in frames:  # the rest is made for the file and the window
            pass
    if args.out is not None:
        print(f"{args.out} written")
    return difference


def _with_progress(frames: Iterator[Numbered], total: int) -> Iterator[Numbered]:
    if not sys.stderr.isatty():
        return frames
    from rich.console import Console
    from rich.progress import track

    return iter(track(frames, "replaying", total, transient=True, console=Console(stderr=True)))
