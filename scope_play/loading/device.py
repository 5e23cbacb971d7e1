"""Which device and which arithmetic a model gets."""

from __future__ import annotations

from pathlib import Path

import torch

from scope_play.errors import ScopeError
from scope_play.runtime.quantize import fp8_obstacle

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EIGHT_BIT = ("fp8", "int8")


DEVICES = ("cpu", "cuda")


BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""How Linux calls a processor's instructions for bfloat16 products, on x86 and Arm."""


def default_precision(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """ "bf16", or "fp32" on a processor without bfloat16 products, where they are some 30 times slower."""
    if device.type != "cpu":
        return "bf16"
    try:
        flags = set(cpuinfo.read_text().split())
    except OSError:
        return "fp32"
    return "bf16" if flags & BF16_FLAGS else "fp32"


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one. Raises ScopeError for a device that is not there."""
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(chosen)
    except RuntimeError as error:
        raise ScopeError(f"device {chosen!r} is not known; use cpu or cuda") from error
    if resolved.type not in DEVICES:
        raise ScopeError(f"device {chosen!r} is none that a model runs on; use {' or '.join(DEVICES)}")
    found = torch.cuda.device_count() if resolved.type == "cuda" else 1
    if found == 0:
        raise ScopeError(f"device {chosen!r} was asked for, but torch {torch.__version__} finds no CUDA GPU; use cpu")
    if (resolved.index or 0) >= found:
        raise ScopeError(f"device {chosen!r} was asked for, but there are {found} of its kind, counted from 0")
    return resolved


def resolve_dtype(precision: str | None, default: str) -> torch.dtype:
    chosen = precision or default
    if chosen not in DTYPES:
        raise ScopeError(f"precision {chosen!r} is not known; use one of {', '.join(DTYPES)}")
    return DTYPES[chosen]


def resolve_precision(precision: str | None, default: str, device: torch.device) -> tuple[torch.dtype, str | None]:
    """The type a model computes in and, for fp8 and int8, how its blocks' linears are stored beside it.

    Raises ScopeError for an unknown precision, and for fp8 without a GPU, where it would only be slower than bf16.
    """
    known = (*DTYPES, *EIGHT_BIT)
    if precision is not None and precision not in known:
        raise ScopeError(f"precision {precision!r} is not known; use one of {', '.join(known)}")
    if precision not in EIGHT_BIT:
        return resolve_dtype(precision, default), None
    if precision == "fp8" and device.type != "cuda":
        raise ScopeError(f"precision fp8 needs an NVIDIA GPU and the model would be on {device}; use bf16 or int8")
    obstacle = fp8_obstacle(device) if precision == "fp8" else None
    if obstacle is not None:
        raise ScopeError(f"precision fp8 {obstacle}; use int8")
    return DTYPES["bf16" if device.type == "cuda" else default], precision
