"""`scope-play generate`: clips from images, prompts and recorded actions."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.commands.arguments import add_memory_options, add_weight_options, as_number, as_path
from scope_play.errors import ScopeError
from scope_play.images import parse_size

if TYPE_CHECKING:
    from scope_play.clips.jobs import ClipJob
    from scope_play.clips.options import ClipInputs, ClipOptions
    from scope_play.loading.outlook import Outlook


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", "--model_dir", default="nano", help="nano, or a folder of weights (default: nano)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--image", "--input_image", type=as_path, metavar="FILE", help="start image, cropped to fit")
    start.add_argument(
        "--image-dir",
        "--input_image_dir",
        type=as_path,
        metavar="DIR",
        help="one clip for each image; foo.png goes with foo.parquet and foo.txt unless others are given",
    )
    parser.add_argument("--actions", "--action_path", type=as_path, metavar="FILE", help="recorded actions (parquet)")
    parser.add_argument("--prompt", help="what the world looks like; nano takes none")
    parser.add_argument(
        "--out",
        "--output_dir",
        type=as_path,
        default=Path(),
        metavar="PATH",
        help="an .mp4 file, or a folder for clips",
    )
    parser.add_argument("--upright", action="store_true", help="turn images as their camera noted (SCOPE's own: no)")
    parser.add_argument("--force", action="store_true", help="replace clips that exist already")
    clip = parser.add_argument_group("the clip (defaults are the model's own)")
    clip.add_argument("--frames", "--max_frames", type=int, help="length in frames, rounded down to 4k+1 (SCOPE: 81)")
    clip.add_argument("--size", metavar="HxW", help="rounded up to multiples of 32 (SCOPE: 480x832)")
    clip.add_argument("--height", type=int, help="the same in two numbers (SCOPE: 480)")
    clip.add_argument("--width", type=int, help="(SCOPE: 832)")
    clip.add_argument("--steps", "--num_inference_steps", type=int, help="denoising steps (SCOPE: 30)")
    clip.add_argument("--guidance", type=as_number, help="how strongly the prompt acts; 1 is off (SCOPE: 5)")
    clip.add_argument("--action-guidance", type=as_number, help="how strongly the actions act (default: 1, off)")
    clip.add_argument("--shift", type=as_number, help="larger spends more steps at high noise (SCOPE: 5)")
    clip.add_argument("--seed", type=int, default=0, help="the same seed gives the same clip (default: 0)")
    clip.add_argument("--negative-prompt", help="what to steer away from (SCOPE: the text it was released with)")
    place = parser.add_argument_group("where it runs")
    place.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    add_memory_options(place)
    add_weight_options(place)


def run(args: argparse.Namespace) -> int:
    from scope_play.clips.jobs import readable

    jobs, options = jobs_of(args), options_of(args)
    ready: list[tuple[ClipJob, ClipInputs]] = []
    failed = 0
    for job, inputs in readable(jobs, force=args.force):
        if not isinstance(inputs, ScopeError):
            ready.append((job, inputs))
        elif len(jobs) == 1:
            raise inputs
        else:
            failed += 1
            complain(job, inputs)
    if ready:
        failed += make_all(args.model, options, ready)
    return 2 if failed else 0


def look_ahead(args: argparse.Namespace) -> Outlook:
    """What `run` will take. Raises ScopeError as it would."""
    from scope_play.clips.jobs import readable
    from scope_play.clips.make import look_ahead

    prompts = []
    for _, inputs in readable(jobs_of(args), force=args.force):
        if isinstance(inputs, ScopeError):
            raise inputs
        prompts.append(inputs.prompt or "")
    return look_ahead(args.model, options_of(args), prompts)


def jobs_of(args: argparse.Namespace) -> list[ClipJob]:
    from scope_play.clips.jobs import folder_jobs, single_job

    if args.image_dir is None:
        jobs = [single_job(args.image, args.actions, args.prompt, args.out)]
    else:
        jobs = folder_jobs(args.image_dir, args.actions, args.prompt, args.out)
    return [replace(job, upright=args.upright) for job in jobs]


def options_of(args: argparse.Namespace) -> ClipOptions:
    from scope_play.clips.options import ClipOptions

    return ClipOptions(
        frames=args.frames,
        size=chosen_size(args),
        steps=args.steps,
        shift=args.shift,
        guidance=args.guidance,
        action_guidance=args.action_guidance,
        seed=args.seed,
        negative_prompt=args.negative_prompt,
        device=args.device,
        precision=args.precision,
        cache=args.cache,
        decoder=args.decoder,
        offload=args.offload or "auto",
        wan=args.wan,
        lora=tuple(args.lora),
    )


def chosen_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width), from --size or from --height and --width."""
    if args.height is None and args.width is None:
        return None if args.size is None else parse_size(args.size, "HEIGHTxWIDTH")
    if args.size is not None:
        raise ScopeError("the size was given twice; use --size, or --height and --width")
    return parse_size(f"{args.height or 480}x{args.width or 832}", "HEIGHTxWIDTH")


def make_all(model: str, options: ClipOptions, ready: list[tuple[ClipJob, ClipInputs]]) -> int:
    """Makes and writes every clip; returns how many failed. The only clip's error is raised instead."""
    from scope_play.clips.jobs import write_clip
    from scope_play.clips.make import open_model
    from scope_play.progress import StageBars

    failed = 0
    with StageBars() as bars:
        maker = open_model(model, options, [inputs.prompt or "" for _, inputs in ready], bars)
        for job, inputs in ready:
            began = time.perf_counter()
            try:
                video = write_clip(job, maker.make(inputs, bars), maker.settings())
            except ScopeError as error:
                if len(ready) == 1:
                    raise
                failed += 1
                complain(job, error)
                continue
            print(f"{job.video}: {video.frames} frames in {time.perf_counter() - began:.1f} s")
    return failed


def complain(job: ClipJob, error: ScopeError) -> None:
    print(f"scope-play: {job.name}: {error}", file=sys.stderr)
