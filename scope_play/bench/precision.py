"""`scope-play bench precision`: what 8 bits change, block by block, against the network as it was made.

For the weights: fp8 and int8 linears; for the caches: keys and values in fp8 behind a full window. Each error is
‖changed - original‖ / ‖original‖ of a block's output: alone, on the input that the original block had, and accumulated
over all blocks before it. The weights are random, so what trained ones do is not said by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from scope_play.bench.block_errors import BlockError
    from scope_play.bench.random_world import Shape
    from scope_play.model.dit.dit import DiT

CHANGES = ("fp8", "int8", "fp8 cache")


def last_pass(network: DiT, shape: Shape, kv_dtype: str, window: int, seed: int = 0) -> Callable[[], Tensor]:
    """The pass of a network over one latent, behind `window` latents that it has written into its caches."""
    import torch

    from scope_play.bench.random_world import random_context
    from scope_play.kernels.text_attention import shorten
    from scope_play.model.dit.action import ActionWindows
    from scope_play.runtime.kv_cache import CacheConfig, StreamCache
    from scope_play.runtime.plain_dit import PlainDiT

    weight = network.patch_embedding.weight
    device, dtype, config = weight.device, weight.dtype, network.config
    generator = torch.Generator().manual_seed(seed)
    stride = shape.vae.spatial_stride
    grid = shape.size[0] // stride, shape.size[1] // stride

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, dtype)

    latents = normal(1, config.in_channels, window + 1, *grid)
    windows = ActionWindows(None, None)
    if config.action is not None:
        rows = normal(1, window + 1, config.action.window_rows, config.action.axes + config.action.buttons)
        windows = ActionWindows(
            rows[..., : config.action.axes].clamp(-1, 1), (rows[..., config.action.axes :] > 0).to(rows)
        )
    text = None
    if config.text_dim is not None:
        context, bias = shorten(random_context(config, dtype))
        text = network.text_keys(context.to(device), None if bias is None else bias.to(device))
    streamed = PlainDiT(network)
    cache = StreamCache(
        config,
        CacheConfig(window, 1, kv_dtype),
        batch=1,
        tokens=network.tokens_per_frame(*grid),
        device=device,
        dtype=dtype,
    )

    def step(index: int, timestep: float) -> Tensor:
        part = slice(index, index + 1)
        seen = ActionWindows(*(None if x is None else x[:, part] for x in windows[:2]))
        time = streamed.embed_time(torch.full((1, 1), timestep, device=device, dtype=dtype), 1)
        plan = streamed.plan_chunk(latents[:, :, part], cache, seen)
        return streamed.step(latents[:, :, part], time, cache, plan, text_cache=text)

    for index in range(window):
        step(index, 0.0)
        cache.commit()
    return lambda: step(window, 500.0)


def measure(shape: Shape, change: str, window: int, device: torch.device, dtype: torch.dtype) -> list[BlockError]:
    """The errors that one of `CHANGES` makes in each block."""
    import torch

    from scope_play.bench.block_errors import block_errors, cache_errors, trace_blocks
    from scope_play.bench.random_world import random_network
    from scope_play.runtime.quantize import quantise_blocks

    network = random_network(shape.network, dtype, device)
    with torch.inference_mode():
        original = trace_blocks(network, last_pass(network, shape, "full", window))
        if change == "fp8 cache":
            return cache_errors(network, original, last_pass(network, shape, "fp8", window))
        # The caches are those of the original, so that the error is that of this pass alone.
        run = last_pass(network, shape, "full", window)
        quantise_blocks(network, change)
        return block_errors(network, original, run)


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.random_world import SHAPES
    from scope_play.bench.report import RESULTS

    parser.add_argument("changes", nargs="*", metavar="change", help=f"{', '.join(CHANGES)} (default: all)")
    parser.add_argument("--model", choices=SHAPES, help="(default: scope-random on a GPU, small-random on a CPU)")
    parser.add_argument("--window", type=int, default=12, help="latents remembered (default %(default)s)")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], default="bf16", help="of the original")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write precision.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from scope_play.bench.random_world import SHAPES
    from scope_play.bench.report import write_result
    from scope_play.bench.timing import pick_dtype
    from scope_play.loading.device import pick_device

    unknown = [change for change in args.changes if change not in CHANGES]
    if unknown:
        raise ScopeError(f"change {unknown[0]!r} is not known; choose from {', '.join(map(repr, CHANGES))}")
    if args.window < 1:
        raise ScopeError(f"--window is {args.window}, but must be at least 1")
    device = pick_device(args.device)
    model = args.model or ("scope-random" if device.type == "cuda" else "small-random")
    dtype = pick_dtype(args.dtype, device)
    errors = {change: measure(SHAPES[model], change, args.window, device, dtype) for change in args.changes or CHANGES}
    console = Console()
    console.print(f"{model}, {dtype} on {device}, window {args.window}: relative errors, alone / accumulated")
    table = Table("block", *errors)
    for index, row in enumerate(zip(*errors.values(), strict=True)):
        table.add_row(str(index), *(f"{error.alone:.2e} / {error.accumulated:.2e}" for error in row))
    console.print(table)
    if args.json is not None:
        numbers = {
            "model": model,
            "dtype": str(dtype),
            "window": args.window,
            "errors": {change: [asdict(error) for error in blocks] for change, blocks in errors.items()},
        }
        console.print(f"written to {write_result('precision', numbers, args.json)}")
    return 0
