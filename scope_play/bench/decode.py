"""`scope-play bench decode`: the latent decoders, one latent frame (four video frames, 200 ms of play) at a time.

`wan` is the released Wan2.2 decoder's size, `wan-small` the same network at a quarter of the width, `taew2_2` the
public tiny decoder for Wan2.2's latents, `nano` that of nano at 192x320 and `tiny` at 96x160. The weights are random:
they cost the same. Operations are counted on the same modules without numbers (meta device). The two of Wan2.2 take
turns with the same layers as they are written down (`literal_decoder`), and "of literal" is the ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_play.errors import ScopeError
from scope_play.images import parse_size

if TYPE_CHECKING:
    import torch

DECODERS = ("wan", "wan-small", "taew2_2", "nano", "tiny")
BUDGET_SECONDS = 0.2
"""What a latent frame may take in all, at 20 frames a second."""


@dataclass(frozen=True)
class Figures:
    """One decoder. `first` is the start image's latent, which makes one frame; the others make four.

    `floor` is the share of the GPU's matrix rate that it reaches; None where that is not known. `of_literal` is the
    median ratio of its time to the literal decoder's, latent by latent; None where there is none.
    """

    decoder: str
    first_ms: float
    median_ms: float
    p95_ms: float
    share_of_budget: float
    tflop: float
    teraflops: float
    floor: float | None
    memory_mb: float
    of_literal: float | None


def make_codec(name: str) -> Any:
    """A codec with random weights."""
    from scope_play.model.nano_codec.codec import NanoCodec
    from scope_play.model.nano_codec.resize import resize_codec
    from scope_play.model.taehv import PreviewCodec, TaehvDecoder
    from scope_play.model.wan_vae.config import VAEConfig
    from scope_play.model.wan_vae.network import VAENetwork
    from scope_play.model.wan_vae.vae import WanVAE

    if name in ("tiny", "nano"):
        return resize_codec(NanoCodec(), (192, 320)) if name == "nano" else NanoCodec()
    if name == "wan":
        return WanVAE(VAENetwork(VAEConfig()))
    small = WanVAE(VAENetwork(VAEConfig(dim=40, dec_dim=64)))
    return PreviewCodec(small, TaehvDecoder()) if name == "taew2_2" else small


def latent_size(codec: Any, frame: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of latents of `frame`; nano's codec has a frame of its own and keeps to it."""
    return codec.config.latent_size(*getattr(codec.config, "frame", frame))


def count_flops(name: str, frame: tuple[int, int], dtype: torch.dtype) -> float:
    """Operations of one later latent of `frame` (height, width), on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        codec = make_codec(name).to(dtype=dtype)
        latent = torch.empty(1, codec.config.latent_channels, 1, *latent_size(codec, frame), dtype=dtype)
        decoder = codec.decoder()
        decoder.push(latent)
        decoder.push(latent)
        with FlopCounterMode(display=False) as counter:
            decoder.push(latent)
    return counter.get_total_flops()


def measure(name: str, frame: tuple[int, int], device: torch.device, dtype: torch.dtype, latents: int) -> Figures:
    """Pushes a start latent and `latents` more of `frame`, and two beforehand to warm up."""
    from statistics import median as median_of

    import torch

    from scope_play.bench.kernels import matrix_share
    from scope_play.bench.literal_decoder import LiteralDecoder
    from scope_play.bench.timing import median_and_p95, time_calls

    with device:
        codec = make_codec(name)
    codec = codec.to(device=device, dtype=dtype)
    latent = torch.randn(1, codec.config.latent_channels, 1, *latent_size(codec, frame), device=device, dtype=dtype)

    def push(decoder: Any) -> Callable[[], object]:
        return lambda: decoder.push(latent)

    warm = codec.decoder()
    for _ in range(3):  # each of the first three latents takes its own path through the causal convolutions
        warm.push(latent)
    first = time_calls({name: lambda: codec.decoder().push(latent)}, device, repeats=1, graphed=False)[name]
    calls = {name: push(warm)}
    if name.startswith("wan"):
        literal = LiteralDecoder(codec.network)
        for _ in range(3):
            literal.push(latent)
        calls["literal"] = push(literal)
    times = time_calls(calls, device, repeats=latents, graphed=False)
    median, p95 = median_and_p95(times[name])
    ratios = [new / old for new, old in zip(times[name], times.get("literal", ()), strict=False)]
    flops = count_flops(name, frame, dtype)
    return Figures(
        decoder=name,
        first_ms=first[0] * 1e3,
        median_ms=median * 1e3,
        p95_ms=p95 * 1e3,
        share_of_budget=median / BUDGET_SECONDS,
        tflop=flops / 1e12,
        teraflops=flops / median / 1e12,
        floor=matrix_share(flops / median / 1e12, device),
        memory_mb=warm.nbytes / 1e6,
        of_literal=median_of(ratios) if ratios else None,
    )


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument("decoders", nargs="*", metavar="decoder", help=f"{', '.join(DECODERS)} (default: all)")
    parser.add_argument("--size", help="frame height x width (default: 480x832 on a GPU, 96x160 on a CPU)")
    parser.add_argument("--latents", type=int, default=10, help="latent frames to time (default %(default)s)")
    parser.add_argument("--threads", type=int, help="of PyTorch; a larger nano draws on the cores that these leave")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="(default: bf16 on a GPU, fp32 on a CPU)")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write decode.json, to this folder")


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console
    from rich.table import Column, Table

    from scope_play.bench.report import write_result
    from scope_play.bench.timing import pick_dtype
    from scope_play.loading.device import pick_device

    unknown = [name for name in args.decoders if name not in DECODERS]
    if unknown:
        raise ScopeError(f"decoder {unknown[0]!r} is not known; choose from {', '.join(DECODERS)}")
    if args.latents < 1:
        raise ScopeError(f"--latents is {args.latents}, but must be at least 1")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    height, width = parse_size(args.size or ("480x832" if device.type == "cuda" else "96x160"), "HEIGHTxWIDTH")
    if height % 16 or width % 16:
        raise ScopeError(f"--size {height}x{width} does not divide into latents of 16 pixels; give multiples of 16")
    table = Table(
        Column("decoder", no_wrap=True),
        *("ms a latent (p95)", "first", "of 200 ms", "TFLOP", "TFLOP/s", "floor", "MB kept", "of literal"),
    )
    results = []
    with torch.inference_mode():
        for name in args.decoders or DECODERS:
            found = measure(name, (height, width), device, dtype, args.latents)
            results.append(found)
            table.add_row(
                name,
                f"{found.median_ms:.1f} ({found.p95_ms:.1f})",
                f"{found.first_ms:.1f}",
                f"{found.share_of_budget:.0%}",
                f"{found.tflop:.3g}",
                f"{found.teraflops:.3g}",
                "" if found.floor is None else f"{found.floor:.0%}",
                f"{found.memory_mb:.1f}",
                "" if found.of_literal is None else f"{found.of_literal:.2f}",
            )
    console = Console()
    console.print(f"{height}x{width}, {dtype}, {device}, random weights")
    console.print(table)
    if args.json is not None:
        numbers = {"size": [height, width], "dtype": str(dtype), "decoders": [asdict(found) for found in results]}
        console.print(f"written to {write_result('decode', numbers, args.json)}")
    return 0
