"""`scope-play bench offline`: one solver step of the mode that denoises a whole clip at once.

The weights are random: they cost the same.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.model.dit.config import SCOPE_5B, DiTConfig

if TYPE_CHECKING:
    import torch

    from scope_play.sampling.clip import GuidedVelocity


SMALL = DiTConfig(dim=256, layers=8, heads=8, ffn_dim=1024, in_channels=64, out_channels=64, text_dim=None)
MODELS = {"scope": (SCOPE_5B, (30, 52)), "small": (SMALL, (12, 20))}
"""Network, and height and width of its latents. Nano streams and has no offline mode."""


def velocity_of(
    config: DiTConfig, latents: int, guidance: float, action_guidance: float, device: torch.device, dtype: torch.dtype
) -> GuidedVelocity:
    """A guided network with random weights, prompt and actions for a clip of `latents` latent frames."""
    import torch

    from scope_play.actions import FRAMES_PER_LATENT
    from scope_play.model.dit.dit import DiT
    from scope_play.sampling.clip import Conditions, GuidedVelocity, Sampling

    with device:
        network = DiT(config).to(dtype).eval().requires_grad_(False)
        context = None if config.text_dim is None else torch.randn(1, 512, config.text_dim, dtype=dtype)
        rows = (1, FRAMES_PER_LATENT * latents)
        buttons = None if config.action is None else torch.ones(*rows, config.action.buttons, dtype=dtype)
        sticks = None if config.action is None else torch.ones(*rows, config.action.axes, dtype=dtype)
    sampling = Sampling(guidance=guidance if context is not None else 1.0, action_guidance=action_guidance)
    return GuidedVelocity(network, Conditions(context, context, buttons, sticks), sampling, image_given=True)


def count_flops(velocity: GuidedVelocity, latents: torch.Tensor, timestep: torch.Tensor) -> float:
    """Operations of one solver step: of matrix products, convolutions and attentions, as they are called."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        velocity(latents, timestep)
    return counter.get_total_flops()


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument("--model", choices=MODELS, help="sizes (default: scope on a GPU, small on a CPU)")
    parser.add_argument("--latents", type=int, default=21, help="latent frames of the clip (default 21: 81 frames)")
    parser.add_argument("--guidance", type=float, default=5.0, help="of the prompt; 1 saves a pass")
    parser.add_argument("--action-guidance", type=float, default=1.0, help="of the actions; 1 saves a pass")
    parser.add_argument("--steps", type=int, default=30, help="solver steps of a clip, for the time of a clip")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="(default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write offline.json, to this folder")


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console

    from scope_play.bench.kernels import matrix_share
    from scope_play.bench.report import write_result
    from scope_play.bench.timing import median_and_p95, pick_dtype, time_calls
    from scope_play.loading.device import pick_device

    for name in ("latents", "steps", "repeats"):
        if getattr(args, name) < 1:
            raise ScopeError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    model = args.model or ("scope" if device.type == "cuda" else "small")
    config, size = MODELS[model]
    shape = (1, config.in_channels, args.latents, *size)
    with torch.inference_mode():
        velocity = velocity_of(config, args.latents, args.guidance, args.action_guidance, device, dtype)
        latents, timestep = torch.randn(shape, device=device, dtype=dtype), torch.tensor(900.0)
        flops = count_flops(velocity, latents, timestep)
        times = time_calls({"step": lambda: velocity(latents, timestep)}, device, args.repeats, graphed=False)["step"]
    median, p95 = median_and_p95(times)
    share = matrix_share(flops / median / 1e12, device)
    numbers = {
        "model": model,
        "config": asdict(config),
        "latents": args.latents,
        "step_seconds": median,
        "step_seconds_p95": p95,
        "tflop": flops / 1e12,
        "teraflops": flops / median / 1e12,
        "floor": share,
        "clip_seconds": args.steps * median,
    }
    beside = "" if share is None else f" ({share:.0%} of the matrix rate)"
    console = Console()
    console.print(f"{model}, {args.latents} latents of {shape[3]}x{shape[4]}, {dtype}, {device}, random weights")
    console.print(
        f"one step {median:.3f} s (p95 {p95:.3f}), {flops / 1e12:.3g} TFLOP at {flops / median / 1e12:.3g} TFLOP/s"
        f"{beside}; {args.steps} steps {args.steps * median:.1f} s without the decoder"
    )
    if args.json is not None:
        console.print(f"written to {write_result('offline', numbers, args.json)}")
    return 0
