"""`scope-play bench stream`: cached streaming, from the parts of a chunk to whether ten thousand of them stay flat.

The session is played through the public API with random actions. Beside it, in turns and on the same weights: a chunk
of the fused form against a full window, with either way to commit, one of the plain DiT, and the passes that streaming
without caches would run, over window and chunk together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from scope_play.world import World

MARKS = 10
SIZE_OF_TINY = (32, 64)


@dataclass(frozen=True)
class Mark:
    """A tenth of a session: chunks made by its end, memory of the process then, median time of its chunks."""

    chunks: int
    resident_mb: float
    chunk_ms: float


@dataclass(frozen=True)
class Played:
    """A session's parts in milliseconds (p50, p95, p99), its caches, and how it went from tenth to tenth."""

    pass_ms: dict[str, float]
    commit_ms: dict[str, float]
    decode_ms: dict[str, float]
    chunk_ms: dict[str, float]
    cache_mb: float
    marks: list[Mark]


@dataclass(frozen=True)
class Compared:
    """Median milliseconds of one chunk, in turns: its plan, its passes, and what writes it into the caches.

    joint, alone: the fused form, committing with the next chunk (None where that cannot be) and in a pass of its own.
    plain: the DiT's own blocks. uncached: as many passes over window and chunk as there are steps.
    `plays_jointly` is what the world does.
    """

    joint_ms: float | None
    alone_ms: float
    plain_ms: float
    uncached_ms: float
    plays_jointly: bool

    @property
    def played_ms(self) -> float:
        return self.joint_ms if self.plays_jointly and self.joint_ms is not None else self.alone_ms

    @property
    def fused_to_plain(self) -> float:
        return self.played_ms / self.plain_ms

    @property
    def cached_to_uncached(self) -> float:
        return self.played_ms / self.uncached_ms


def tiny_world(**stream: Any) -> World:
    """A world with random weights, small enough for ten thousand chunks."""
    import torch

    from scope_play.loading.nano import native_model, untrained_nano_config
    from scope_play.model.dit.dit import DiT
    from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
    from scope_play.model.nano_codec.light_field import CameraConfig, FieldConfig
    from scope_play.sampling.stream_config import StreamConfig
    from scope_play.world import World

    field = FieldConfig(width=24, layers=1, state_width=16)
    codec = NanoCodecConfig(
        frame=SIZE_OF_TINY,
        latent_channels=32,
        camera=CameraConfig(),
        ground=8,
        court=field,
        hand=field,
        finish_channels=8,
        finder_channels=8,
        finder_width=32,
    )
    config = untrained_nano_config()
    shape = replace(config.world, dim=48, layers=2, heads=2, ffn_dim=96, in_channels=32, out_channels=32)
    config = replace(config, world=shape, codec=codec, size=SIZE_OF_TINY, sampling=StreamConfig(**stream))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, decoder = DiT(shape), NanoCodec(codec)
    return World(native_model(network, decoder, config, "tiny"))


def play(world: World, chunks: int) -> Played:
    """One session of `chunks` chunks of random actions."""
    import numpy as np
    import psutil

    from scope_play.actions import AXES, BUTTONS
    from scope_play.bench.measure import percentiles

    process, generator = psutil.Process(), np.random.default_rng(0)
    shape = (world.spec.frames_per_chunk,)
    parts: dict[str, list[float]] = {"denoise": [], "commit": [], "decode": []}
    totals: list[float] = []
    marks: list[Mark] = []
    with world.start(seed=0) as session:
        for index in range(chunks):
            buttons = generator.integers(0, 2, (*shape, len(BUTTONS)))
            sticks = generator.uniform(-1, 1, (*shape, len(AXES)))
            rows = np.concatenate([buttons, sticks], 1).astype(np.float32)
            began = time.perf_counter()
            made = session.step(rows)
            totals.append(time.perf_counter() - began)  # not the sum: on a GPU decoding and commit run side by side
            for name, seconds in parts.items():
                seconds.append(made.timings[name])
            if (index + 1) * MARKS // chunks > len(marks):
                since = marks[-1].chunks if marks else 0
                median = 1000 * statistics.median(totals[since:])
                marks.append(Mark(index + 1, process.memory_info().rss / 1e6, median))
        cache_mb = session.snapshot().nbytes / 1e6
    return Played(
        pass_ms=percentiles([seconds / world.spec.stream.steps for seconds in parts["denoise"]]),
        commit_ms=percentiles(parts["commit"]),
        decode_ms=percentiles(parts["decode"]),
        chunk_ms=percentiles(totals),
        cache_mb=cache_mb,
        marks=marks,
    )


def compare(world: World, repeats: int) -> Compared:
    """A chunk of the plain, the fused and the uncached stream, on this world's weights and at its window."""
    import torch

    from scope_play.bench.timing import time_calls
    from scope_play.model.dit.action import ActionWindows
    from scope_play.model.dit.layout import bidirectional, block_causal
    from scope_play.runtime.plain_dit import PlainDiT
    from scope_play.runtime.select import network_for_session
    from scope_play.sampling.cached_stream import CachedStream
    from scope_play.sampling.stream import StreamingNetwork, commits_jointly

    model, spec = world.model, world.spec
    plain, fused = model.network, model.streaming_network
    stream = replace(model.stream, guidance=1.0, action_guidance=1.0)
    if fused is None:
        raise ScopeError("bench stream measures caches, and this model streams without; choose mode cached")
    config, device, dtype = plain.config, model.device, model.dtype
    chunk, everything = stream.chunk, stream.window + stream.chunk
    with torch.inference_mode():
        first = model.codec.encoder().push(torch.zeros(1, 3, 1, spec.height, spec.width, device=device, dtype=dtype))
    latents = torch.randn_like(first.expand(-1, -1, everything, -1, -1))
    action = config.action
    windows = ActionWindows(None, None)
    if action is not None:
        rows = torch.rand(1, everything, action.window_rows, action.axes + action.buttons, device=device, dtype=dtype)
        windows = ActionWindows(rows[..., : action.axes], rows[..., action.axes :].round())
    text = None
    if config.text_dim is not None:
        text = plain.text_keys(torch.randn(1, 512, config.text_dim, device=device, dtype=dtype))
    new = latents[:, :, -chunk:]
    of_chunk = ActionWindows(*(None if x is None else x[:, -chunk:] for x in windows[:2]))
    functions: dict[str, Callable[[], object]] = {}

    def add(name: str, network: StreamingNetwork, joint: bool) -> None:
        session = CachedStream(network, stream, first, joint=joint)
        session.set_text(text, text)

        def one_chunk() -> None:
            session.denoise(new, of_chunk)
            session.commit()

        for _ in range(2 + stream.window // chunk):
            one_chunk()
        functions[name] = one_chunk

    layout = block_causal(everything, chunk=chunk) if config.causal else bidirectional(everything)
    layout = layout.to(device)
    index = (torch.arange(everything, device=device) >= stream.window).long()
    both = torch.tensor([[0.0, 500.0]], device=device, dtype=dtype)

    def uncached() -> None:
        for _ in range(stream.steps):
            plain(latents, both, timestep_index=index, layout=layout, windows=windows, text_cache=text)

    functions["uncached"] = uncached
    room, tokens = stream.room(config.causal), plain.tokens_per_frame(*first.shape[-2:])
    with torch.inference_mode():
        add("plain", PlainDiT(plain), False)
        add("alone", network_for_session(fused), False)
        if room <= stream.window and stream.cache == "full":
            add("joint", network_for_session(fused), True)
        seconds = time_calls(functions, device, repeats, graphed=False)
    median = {name: 1000 * statistics.median(taken) for name, taken in seconds.items()}
    plays_jointly = commits_jointly(stream, config.causal, tokens)
    return Compared(median.get("joint"), median["alone"], median["plain"], median["uncached"], plays_jointly)


def configure(parser: argparse.ArgumentParser) -> None:
    from scope_play.bench.report import RESULTS

    parser.add_argument(
        "--model",
        default="nano",
        help="nano, tiny (small and random), scope-random (SCOPE's size, for a GPU), small-random or a folder "
        "(default: nano)",
    )
    parser.add_argument("--chunks", type=int, default=40, help="length of the session (default %(default)s)")
    parser.add_argument("--window", type=int, help="latents remembered (default: the model's own)")
    parser.add_argument("--chunk", type=int, help="latents denoised at once (default: the model's own)")
    parser.add_argument("--steps", type=int, help="denoising passes for a chunk (default: the model's own)")
    parser.add_argument("--repeats", type=int, default=40, help="of each compared pass (default %(default)s)")
    parser.add_argument("--device", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--precision", help="as in play (default: the model's own)")
    parser.add_argument("--cache", choices=("full", "fp8"), help="as in play")
    parser.add_argument("--decoder", choices=("full", "tiny"), help="as in play")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write stream.json, to this folder")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from scope_play.bench.random_world import SHAPES, random_world
    from scope_play.bench.report import write_result
    from scope_play.world import World

    for name in ("chunks", "repeats"):
        if getattr(args, name) < 1:
            raise ScopeError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    names = ("window", "steps", "chunk", "cache")
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    place = {"device": args.device, "precision": args.precision}
    if args.model == "tiny":
        if args.precision or args.decoder or args.device not in (None, "cpu"):
            raise ScopeError("--model tiny runs on the CPU in fp32; leave --device, --precision and --decoder out")
        world = tiny_world(**changes)
    elif args.model in SHAPES:
        world = random_world(args.model, **place, decoder=args.decoder or "full", overrides=changes)
    else:
        world = World.load(args.model, **place, decoder=args.decoder, **changes)
    compared, played = compare(world, args.repeats), play(world, args.chunks)
    report(Console(), world, played, compared)
    if args.json is not None:
        ratios = {"fused_to_plain": compared.fused_to_plain, "cached_to_uncached": compared.cached_to_uncached}
        numbers = {"spec": asdict(world.spec), "session": asdict(played), "compared": asdict(compared) | ratios}
        print(f"written to {write_result('stream', numbers, args.json)}")
    return 0


def report(console: Any, world: World, played: Played, compared: Compared) -> None:
    from rich.table import Table

    spec = world.spec
    console.print(
        f"{spec.name}, {spec.height}x{spec.width}, {spec.precision} on {spec.device}, kernels {world.kernels}, "
        f"{spec.stream.steps} steps, window {spec.stream.window}, caches and decoder {played.cache_mb:.1f} MB"
    )
    parts = Table("ms", "p50", "p95", "p99")
    rows = {"a denoising pass": played.pass_ms, "commit": played.commit_ms, "decode": played.decode_ms}
    for name, spread in (rows | {"a chunk": played.chunk_ms}).items():
        parts.add_row(name, *(f"{spread[share]:.2f}" for share in ("p50", "p95", "p99")))
    console.print(parts)
    joint = "cannot be" if compared.joint_ms is None else f"{compared.joint_ms:.2f} ms"
    console.print(
        f"one chunk, in turns: committed with the next {joint}, in a pass of its own {compared.alone_ms:.2f} ms "
        f"(played: {'with the next' if compared.plays_jointly else 'its own'}), DiT {compared.plain_ms:.2f} ms, "
        f"uncached over window and chunk {compared.uncached_ms:.2f} ms"
    )
    console.print(f"fused / DiT {compared.fused_to_plain:.3f}, cached / uncached {compared.cached_to_uncached:.3f}")
    course = Table("chunks", "resident MB", "ms a chunk")
    for mark in played.marks:
        course.add_row(str(mark.chunks), f"{mark.resident_mb:.1f}", f"{mark.chunk_ms:.2f}")
    console.print(course)
