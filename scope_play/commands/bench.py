"""`scope-play bench NAME`: a benchmark is a module in `scope_play.bench` with `configure(parser)` and `run(args)`."""

from __future__ import annotations

import argparse
import importlib

BENCHES: dict[str, str] = {
    "dit": "our forward against a literal transcription of the reference",
    "stream": "cached streaming: passes, commit, decode, memory",
    "arena": "the simulator: frames a second",
    "play": "the whole loop: fps, chunk time, input-to-frame delay",
    "remote": "play over a line of your choice: fps, press to its own frame, lost and invented, bandwidth",
    "film": "a player's pictures: bandwidth, and what of a core encoding takes",
    "soak": "hours of the demo: memory, delay and chunk time by the minute, the recording checked",
    "kernels": "fused kernels against their PyTorch twins",
    "products": "a block's linears by every way that can compute them",
    "decode": "the latent decoders",
    "offline": "the 81-frame mode: one solver step",
    "clip": "the 81-frame mode: a whole clip, and its memory",
    "precision": "what 8-bit weights and caches change in each block",
    "profile": "streaming, operation by operation",
    "gpu": "everything that waits for a GPU, one part after another",
    "rehearsal": "the released weights' whole path with random numbers: download to replay, memory of each step",
    "roofline": "the floor that arithmetic and bandwidth set, for a GPU you name",
}


def configure(parser: argparse.ArgumentParser) -> None:
    known = "; ".join(f"{name}: {summary}" for name, summary in BENCHES.items())
    parser.add_argument("bench", choices=BENCHES, metavar="name", help=known)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="its own options; `bench NAME --help` lists them")


def run(args: argparse.Namespace) -> int:
    module = importlib.import_module(f"scope_play.bench.{args.bench}")
    parser = argparse.ArgumentParser(prog=f"scope-play bench {args.bench}", description=BENCHES[args.bench])
    module.configure(parser)
    return int(module.run(parser.parse_args(args.rest)))
