"""The floor that arithmetic and bandwidth set for streaming, counted from the config: no GPU is needed.

Each part of a pass takes at least as long as its arithmetic at the GPU's matrix rate and as its bytes at its memory
bandwidth; the parts run one after the other, so the floor of a pass is the sum of those maxima. A chunk of latents is
`steps` denoising passes and one that commits it to the caches.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.bench.costs import GPUS, Cost, Gpu
from scope_play.errors import ScopeError
from scope_play.model.dit.config import NANO, SCOPE_5B, DiTConfig

if TYPE_CHECKING:
    from rich.table import Table

LATENTS = {"scope": (30, 52), "nano": (1, 1)}
"""Latent height and width of 480x832 and 96x160 frames."""


@dataclass(frozen=True)
class Workload:
    """What is streamed: `tokens` a latent frame, `chunk` latents at once over `context` cached ones.

    linear_speedup: matrix rate of the linears over that of bf16; 2 for fp8.
    """

    tokens: int
    chunk: int = 1
    context: int = 12
    text_keys: int = 512
    weight_bytes: float = 2
    cache_bytes: float = 2
    activation_bytes: float = 2
    linear_speedup: float = 1


def pass_costs(config: DiTConfig, work: Workload) -> list[Cost]:
    """The parts of one pass over a chunk, as `DiT.step` computes it: conditions, time embedding and text keys given."""
    rows, dim, layers = work.chunk * work.tokens, config.dim, config.layers
    visible = work.chunk + work.context

    def linears(name: str, *shapes: tuple[int, int]) -> Cost:
        weights = sum(i * o for i, o in shapes)
        activations = sum(i + o for i, o in shapes) * rows
        return Cost(
            name,
            layers * 2 * rows * weights,
            layers * weights * work.weight_bytes,
            activations=layers * activations * work.activation_bytes,
            speedup=work.linear_speedup,
        )

    def attention(name: str, keys: int, cached: int) -> Cost:
        """`keys` seen by each token; `cached` rows of keys and of values read in all."""
        return Cost(
            name,
            layers * 4 * rows * keys * dim,
            cache=layers * 2 * cached * dim * work.cache_bytes,
            activations=layers * 2 * rows * dim * work.activation_bytes,
        )

    square = (dim, dim)
    patch = config.patch[1] * config.patch[2]
    costs = [
        linears("video attention: projections", *[square] * 4),
        attention("video attention", visible * work.tokens, visible * work.tokens),
        linears("feed-forward", (dim, config.ffn_dim), (config.ffn_dim, dim)),
    ]
    if config.text_dim is not None:
        costs.append(linears("text attention: projections", *[square] * 2))
        costs.append(attention("text attention", work.text_keys, work.text_keys))
    if config.action is not None:
        costs.append(linears("sticks: MLP and projections", *[square] * 6))
        costs.append(attention("sticks: pixel attention", visible, visible * work.tokens))
        costs += _button_costs(
            linears("buttons: projections", square), attention("buttons: attention", visible, visible), config, work
        )
    inputs = config.in_channels * (2 if config.from_previous else 1)
    ends = inputs * patch * dim + dim * patch * config.out_channels
    costs.append(Cost("patch embedding and head", 2 * rows * ends, ends * work.weight_bytes))
    return costs


def _button_costs(square: Cost, attention: Cost, config: DiTConfig, work: Workload) -> list[Cost]:
    """Query and output projections, each `square` when applied to all tokens, and the attention between them."""
    from scope_play.model.dit.action import project_values_first

    rows, visible, dim = work.chunk * work.tokens, work.chunk + work.context, config.dim
    if not project_values_first(rows, visible, config.heads, dim):
        both = replace(square, flops=2 * square.flops, weights=2 * square.weights, activations=2 * square.activations)
        return [both, attention]
    of_values = config.layers * 2 * visible * dim * dim
    projected = config.layers * (1 + config.heads) * visible * dim * work.activation_bytes
    return [
        replace(
            square,
            flops=square.flops + of_values,
            weights=2 * square.weights,
            activations=square.activations + projected,
        ),
        # Scores as ever; the sum of values runs over the keys of all heads at once, each as wide as the tokens.
        replace(attention, flops=attention.flops / 2 * (1 + config.heads)),
    ]


def chunk_costs(config: DiTConfig, work: Workload) -> list[Cost]:
    """What is computed once a chunk, for any number of passes: time embedding, and what the actions alone decide."""
    dim, layers = config.dim, config.layers
    time = config.freq_dim * dim + dim * dim + 6 * dim * dim
    costs = [Cost("time embedding", 2 * time, time * work.weight_bytes)]
    if config.action is not None:
        window = config.action.axes * config.action.window_rows
        width = dim // config.action.window_rows
        embed = config.action.buttons * width + width * width
        per_layer = window * dim + embed + 2 * dim * dim
        flops = window * dim + embed * config.action.window_rows + 2 * dim * dim
        if config.action.modulates:
            rows = config.action.window_rows * (config.action.axes + config.action.buttons)
            weights = rows * dim + 6 * dim * dim
            costs.append(Cost("action modulation", 2 * work.chunk * weights, weights * work.weight_bytes))
        costs.append(Cost("action conditions", layers * 2 * work.chunk * flops, layers * per_layer * work.weight_bytes))
    return costs


def frames_per_second(config: DiTConfig, work: Workload, gpu: Gpu, steps: int) -> float:
    """Video frames a second at the floor, with `steps` denoising passes and one commit for each chunk."""
    a_pass = sum(cost.seconds(gpu) for cost in pass_costs(config, work))
    once = sum(cost.seconds(gpu) for cost in chunk_costs(config, work))
    frames = work.chunk * (config.action.frames_per_latent if config.action is not None else 4)
    return frames / ((steps + 1) * a_pass + once)


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument(
        "--gpu", choices=[*GPUS, "all"], default="all", help="print the parts for one GPU, or sums for all"
    )
    parser.add_argument("--model", choices=LATENTS, default="scope")
    parser.add_argument("--chunk", type=int, default=1, help="latents denoised at once (default %(default)s)")
    parser.add_argument("--window", type=int, default=12, help="latents remembered (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="denoising passes a chunk (default %(default)s)")
    parser.add_argument("--text-keys", type=int, default=512, help="keys of the prompt (default %(default)s)")
    parser.add_argument("--precision", choices=["bf16", "fp8", "int8"], default="bf16", help="of the weights")
    parser.add_argument("--decoder", action="store_true", help="SCOPE's full decoder instead, layer by layer")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write roofline.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    for name in ("chunk", "steps", "window"):
        if getattr(args, name) < 1:
            raise ScopeError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    if args.decoder:
        from scope_play.bench.decoder_roofline import decoder_costs, decoder_table

        costs = decoder_costs(latent=LATENTS["scope"])
        for name in list(GPUS) if args.gpu == "all" else [args.gpu]:
            Console().print(decoder_table(costs, name, GPUS[name]))
        return 0
    config = {"scope": SCOPE_5B, "nano": NANO}[args.model]
    height, width = LATENTS[args.model]
    tokens = (height // config.patch[1]) * (width // config.patch[2])
    work = Workload(
        tokens,
        args.chunk,
        args.window,
        args.text_keys,
        weight_bytes=2 if args.precision == "bf16" else 1,
        linear_speedup=2 if args.precision == "fp8" else 1,
    )
    console = Console()
    console.print(f"{args.model}, {args.precision}: {tokens} tokens, chunk {args.chunk}, window {args.window}")
    if args.gpu != "all":
        console.print(_parts_table(config, work, args.gpu))
    chosen = list(GPUS) if args.gpu == "all" else [args.gpu]
    console.print(_gpu_table(config, work, chosen, args.steps))
    if args.json is not None:
        from scope_play.bench.report import write_result

        numbers = {
            "workload": asdict(work),
            "pass": [asdict(cost) for cost in pass_costs(config, work)],
            "chunk": [asdict(cost) for cost in chunk_costs(config, work)],
            "fps": {name: frames_per_second(config, work, GPUS[name], args.steps) for name in chosen},
        }
        console.print(f"written to {write_result('roofline', numbers, args.json)}")
    return 0


def _parts_table(config: DiTConfig, work: Workload, name: str) -> Table:
    from rich.table import Table

    gpu, costs = GPUS[name], pass_costs(config, work)
    table = Table("part", "TFLOP", "GB weights", "GB cache", "ms", "bound by")

    def add(part: str, parts: Sequence[Cost], bound: str = "") -> None:
        table.add_row(
            part,
            f"{sum(cost.flops for cost in parts) / 1e12:.3f}",
            f"{sum(cost.weights for cost in parts) / 1e9:.2f}",
            f"{sum(cost.cache for cost in parts) / 1e9:.2f}",
            f"{1e3 * sum(cost.seconds(gpu) for cost in parts):.2f}",
            bound,
        )

    for cost in costs:
        add(cost.name, [cost], "arithmetic" if cost.arithmetic(gpu) >= cost.traffic(gpu) else "memory")
    table.add_section()
    add("one pass", costs)
    add("once a chunk", chunk_costs(config, work))
    return table


def _gpu_table(config: DiTConfig, work: Workload, names: Sequence[str], steps: int) -> Table:
    from rich.table import Table

    table = Table("GPU", "TFLOP/s", "TB/s", "ms a pass", f"fps, {steps} + 1 passes", "rates")
    for name in names:
        gpu = GPUS[name]
        milliseconds = 1e3 * sum(cost.seconds(gpu) for cost in pass_costs(config, work))
        rate = frames_per_second(config, work, gpu, steps)
        table.add_row(name, f"{gpu.tflops:g}", f"{gpu.terabytes:g}", f"{milliseconds:.2f}", f"{rate:.1f}", gpu.source)
    return table
