"""`scope-play bench dit`: our forward against a literal transcription of SPEC.md, on the same parameters.

Prints time and peak memory of both, for the ActionModule alone and for the whole forward, and the ratios.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scope_play.model.dit.dit import DiT


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--latents", type=int, default=5, help="latent frames")
    parser.add_argument("--grid", default="15x26", help="tokens of a latent frame, rows x columns")
    parser.add_argument("--prompt", type=int, default=100, help="tokens of the prompt, of 512 (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--offload", action="store_true", help="instead: blocks streamed once a pass, or twice")
    parser.add_argument("--json", action="store_true", help="also write bench/results/dit.json")


def compare_offloading(dit: DiT, one_pass: Callable[[], object], repeats: int) -> None:
    """A pass that streams each block once, against one that first goes round for what they make of the actions."""
    import statistics

    import torch

    from scope_play.bench.measure import interleave
    from scope_play.runtime.offload import stream_blocks

    stream_blocks(dit, "cpu")

    def twice() -> None:
        for _block in dit.blocks:
            pass
        one_pass()

    with torch.inference_mode():
        seconds = interleave({"once": one_pass, "twice": twice}, repeats)
    once, both = (1000 * statistics.median(seconds[name]) for name in ("once", "twice"))
    print(f"blocks streamed once a pass: {once:.1f} ms, twice: {both:.1f} ms, {both / once:.2f} times as long")


def run(args: argparse.Namespace) -> int:
    import statistics

    import torch
    from einops import rearrange
    from rich.console import Console
    from rich.table import Table

    from scope_play.bench.literal import freqs_1d, literal_action, literal_forward
    from scope_play.bench.measure import interleave
    from scope_play.bench.report import write_result
    from scope_play.kernels.text_attention import shorten
    from scope_play.model.dit.action import ActionModule, ActionWindows, TimePlan, window_rows
    from scope_play.model.dit.config import ActionConfig, DiTConfig
    from scope_play.model.dit.dit import DiT
    from scope_play.model.dit.layers import pixel_rotation
    from scope_play.runtime.live_bytes import peak_live_bytes

    rows, columns = (int(side) for side in args.grid.split("x"))
    frames, tokens = args.latents, rows * columns
    config = DiTConfig(dim=args.dim, heads=args.heads, layers=args.layers, ffn_dim=args.dim * 14 // 3)
    torch.manual_seed(0)
    dit = DiT(config).eval().requires_grad_(False)
    latents = torch.randn(1, 48, frames, 2 * rows, 2 * columns)
    context = torch.randn(1, 512, 4096)
    context[:, args.prompt :] = 0  # as the text encoder leaves the padding
    buttons = torch.randint(0, 2, (1, 4 * frames, 6)).float()
    sticks = torch.rand(1, 4 * frames, 4) * 2 - 1
    timestep = torch.tensor(900.0)
    times = torch.tensor([[0.0, 900.0]])
    index = (torch.arange(frames) > 0).long()
    text = dit.text_keys(*shorten(context))

    def ours() -> torch.Tensor:
        return dit(latents, times, timestep_index=index, text_cache=text, buttons=buttons, sticks=sticks)

    def literal() -> torch.Tensor:
        return literal_forward(dit, latents, timestep, context, buttons, sticks)

    if args.offload:
        compare_offloading(dit, ours, args.repeats)
        return 0
    module = next(part for part in dit.modules() if isinstance(part, ActionModule))
    hidden = torch.randn(1, frames, tokens, args.dim)
    rotation = pixel_rotation(torch.arange(frames), config.head_dim)
    freqs = freqs_1d(config.head_dim)[:frames].view(frames, 1, -1)
    windows = ActionWindows(window_rows(sticks, frames, ActionConfig()), window_rows(buttons, frames, ActionConfig()))

    def our_action() -> torch.Tensor:
        return module(hidden, module.condition(windows, rotation), TimePlan(rotation, None))

    def their_action() -> torch.Tensor:
        return literal_action(module, rearrange(hidden, "b f s c -> b (f s) c"), freqs, buttons, sticks, frames)

    table = Table(title=f"dim {args.dim}, {args.layers} layers, {frames} latents of {args.grid} tokens, fp32, CPU")
    for heading in (
        "",
        "ours ms",
        "literal ms",
        "times faster",
        "ours MB",
        "literal MB",
        "times smaller",
        "max difference",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    results = {}
    with torch.inference_mode():
        for name, mine, other in (("ActionModule", our_action, their_action), ("whole forward", ours, literal)):
            difference = float((mine().flatten() - other().flatten()).abs().max())
            seconds = interleave({"ours": mine, "literal": other}, args.repeats)
            fast, slow = (1000 * statistics.median(seconds[key]) for key in ("ours", "literal"))
            small, large = (peak_live_bytes(dit.parameters(), function) / 1e6 for function in (mine, other))
            results[name] = {
                "ours_ms": fast, "literal_ms": slow, "speed_ratio": slow / fast,
                "ours_mb": small, "literal_mb": large, "memory_ratio": large / small, "max_difference": difference,
            }  # fmt: skip
            cells = (fast, slow, slow / fast, small, large, large / small)
            table.add_row(name, *(f"{cell:.2f}" for cell in cells), f"{difference:.1e}")
    Console().print(table)
    if args.json:
        write_result("dit", {"settings": vars(args) | {"run": None}, "results": results})
    return 0
