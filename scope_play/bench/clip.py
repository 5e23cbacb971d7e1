"""`scope-play bench clip`: one whole offline clip with random weights: time of each step, decoding, peak memory.

On a GPU with `--offload blocks` the transformer's blocks lie in pinned host memory, as in `scope-play generate`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    import torch

    from scope_play.bench.random_world import Shape


@dataclass(frozen=True)
class Figures:
    """One clip. Memory is that of the device, and None on a CPU."""

    offload: str
    frames: int
    steps: int
    step_seconds: float
    step_seconds_p95: float
    decode_seconds: float
    clip_seconds: float
    peak_gib: float | None


def measure(
    shape: Shape, frames: int, steps: int, guidance: float, offload: str, device: torch.device, dtype: torch.dtype
) -> Figures:
    import numpy as np
    import torch

    from scope_play.bench.random_world import random_codec, random_context, random_network
    from scope_play.bench.timing import median_and_p95
    from scope_play.loading.free_memory import GIB
    from scope_play.runtime.offload import stream_blocks
    from scope_play.sampling.clip import ClipShape, Conditions, Sampling, generate_clip

    on_gpu = device.type == "cuda"
    network = random_network(shape.network, dtype, torch.device("cpu") if offload == "blocks" else device)
    if offload == "blocks":
        stream_blocks(network, device)
    vae = random_codec(shape.vae, dtype, device, "full")
    clip = ClipShape(frames, *shape.size)
    positive, negative = (random_context(shape.network, dtype, seed).to(device) for seed in (0, 1))
    rows = torch.zeros(1, clip.frames, 6, device=device, dtype=dtype), torch.zeros(1, clip.frames, 4).to(device, dtype)
    marks: dict[str, list[float]] = {"steps": [], "decode": []}

    def note(stage: str, done: int, total: int) -> None:
        if on_gpu:
            torch.cuda.synchronize(device)
        marks[stage].append(time.perf_counter())

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    generate_clip(
        network,
        vae,  # type: ignore[arg-type]
        Conditions(positive, negative, *rows),
        np.full((*shape.size, 3), 128, np.uint8),
        clip,
        Sampling(steps=steps, guidance=guidance),
        dtype=dtype,
        device=device,
        progress=note,
    )
    seconds = [after - before for before, after in zip(marks["steps"], marks["steps"][1:], strict=False)]
    median, p95 = median_and_p95(seconds)
    return Figures(
        offload=offload,
        frames=clip.frames,
        steps=steps,
        step_seconds=median,
        step_seconds_p95=p95,
        decode_seconds=marks["decode"][-1] - marks["steps"][-1],
        clip_seconds=time.perf_counter() - began,
        peak_gib=torch.cuda.max_memory_allocated(device) / GIB if on_gpu else None,
    )


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.random_world import SHAPES
    from scope_play.bench.report import RESULTS

    parser.add_argument("--model", choices=SHAPES, help="(default: scope-random on a GPU, small-random on a CPU)")
    parser.add_argument("--frames", type=int, default=81, help="length (default %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="solver steps (default %(default)s)")
    parser.add_argument("--guidance", type=float, default=5.0, help="of the prompt; 1 saves a pass")
    parser.add_argument("--offload", choices=("none", "blocks"), default="none")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="(default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write clip.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from scope_play.bench.random_world import SHAPES
    from scope_play.bench.report import write_result
    from scope_play.bench.timing import pick_dtype
    from scope_play.loading.device import pick_device

    for name in ("frames", "steps"):
        if getattr(args, name) < 1:
            raise ScopeError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    model = args.model or ("scope-random" if device.type == "cuda" else "small-random")
    found = measure(SHAPES[model], args.frames, args.steps, args.guidance, args.offload, device, dtype)
    console = Console()
    memory = "" if found.peak_gib is None else f", at most {found.peak_gib:.1f} GiB on the GPU"
    console.print(
        f"{model}, {dtype} on {device}, offload {found.offload}: {found.frames} frames in {found.clip_seconds:.1f} s; "
        f"a step {found.step_seconds:.3f} s (p95 {found.step_seconds_p95:.3f}), decoding {found.decode_seconds:.1f} s"
        f"{memory}"
    )
    if args.json is not None:
        numbers = {"model": model, "dtype": str(dtype), **asdict(found)}
        console.print(f"written to {write_result('clip', numbers, args.json)}")
    return 0
