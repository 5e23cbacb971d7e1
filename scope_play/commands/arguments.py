"""Types of options that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import place

"""Holds the secret of a server, which must not stand in arguments: every user of the machine can read those."""


def as_number(text: str) -> float:
    """A number, and not an infinite one or none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number


def as_path(text: str) -> Path:
    """A path, made absolute once and for all."""
    try:
        return place(text)
    except ScopeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_memory_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The options that trade closeness to the weights for memory and speed, as `World.load` takes them."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp8", "int8"),
        help="of the weights (SCOPE: bf16, nano: fp32); int8 halves them on any card, fp8 on Ada, Hopper and newer",
    )
    parser.add_argument("--cache", choices=("full", "fp8"), help="fp8: half the memory for what SCOPE remembers")
    parser.add_argument(
        "--decoder", choices=("full", "tiny"), help="tiny: SCOPE's frames from taew2_2, in a few ms, at preview quality"
    )


def add_weight_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Where SCOPE's parts are, and where they go, as `World.load` takes it."""
    parser.add_argument(
        "--offload",
        choices=("auto", "none", "blocks", "disk"),
        help="blocks: keep SCOPE's blocks in host memory and stream them through the GPU, for cards of 12-24 GB; disk: "
        "leave them in their files, for hosts with little memory (default: what fits; play on a GPU: none)",
    )
    parser.add_argument(
        "--wan", metavar="DIR", help="Wan2.2's autoencoder, text encoder and tokenizer, if not beside the model"
    )
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:SCALE]",
        help="merge into the transformer; repeatable",
    )


def add_stream_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """How a world is denoised, as `World.load` takes it."""
    add = parser.add_argument
    add(
        "--mode",
        choices=("cached", "window"),
        help="cached: against keys and values of what was; window: it runs again",
    )
    add("--steps", type=int, help="denoising passes a chunk; fewer is faster and coarser")
    add("--guidance", type=as_number, help="how strongly the prompt acts; 1 is off")
    add("--action-guidance", type=as_number, help="how strongly the pad acts; 1 is off")
    add("--window", type=int, help="latents remembered, of four frames each")
    add("--chunk", type=int, help="latents made together")
    add("--shift", type=as_number, help="larger spends more passes at high noise")
