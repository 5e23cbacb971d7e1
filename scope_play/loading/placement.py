"""Where a model goes so that it fits, or the sentence that says what would fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scope_play.errors import ScopeError
from scope_play.loading.free_memory import FreeMemory, gib
from scope_play.loading.memory import ClipNeed, StreamNeed
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.sampling.clip import ClipShape


def place(need: ClipNeed, free: FreeMemory, offload: str) -> str | None:
    """The offloading that fits, "none" or "blocks", or None. "auto" keeps everything on the device if it can."""
    if need.text > max(free.device, free.host):
        return None
    for mode in ("none", "blocks") if offload == "auto" else (offload,):
        device, host = need.on_device(mode), need.blocks if mode == "blocks" else 0
        fits = device + host <= free.host if free.is_cpu else device <= free.device and host <= free.host
        if fits:
            return mode
    return None


def require_stream(
    need: StreamNeed, free: FreeMemory, cache: CacheConfig, lighter: Sequence[tuple[str, int]] = ()
) -> None:
    """Raises ScopeError, saying what would fit, when a session does not.

    `lighter` are settings that need less, as they are written on the command line, with the bytes they need.
    """
    asked = need.on_device(cache)
    if asked <= free.device:
        return
    windows = range(cache.window - 1, 0, -1)
    shorter = next((w for w in windows if need.on_device(replace(cache, window=w)) <= free.device), None)
    mend = next((settings for settings, needed in lighter if needed <= free.device), None)
    if mend is None and shorter is not None:
        mend = f"a window of {shorter} latents"
    mend = mend or "a smaller model such as nano, which runs in 1 GiB"
    where = "memory" if free.is_cpu else "GPU memory"
    raise ScopeError(
        f"Playing this model needs {gib(asked)} of {where}, and {gib(free.device)} are free; close other programs, or "
        f"use {mend}."
    )


def require_placement(
    need: ClipNeed, free: FreeMemory, offload: str, shape: ClipShape, activations: Callable[[ClipShape], int]
) -> str:
    """As `place`, or a ScopeError that says what would fit. `activations` are those of another shape."""
    mode = place(need, free, offload)
    if mode is not None:
        return mode
    where = "memory" if free.is_cpu else "GPU memory"
    asked = need.on_device("none" if offload == "auto" else offload)
    problem = f"This clip needs {gib(asked)} of {where}"
    if asked != need.on_device("blocks") and not free.is_cpu:
        problem += f" ({gib(need.on_device('blocks'))} with its blocks offloaded)"
    there = free.device
    if need.text > max(free.device, free.host):
        problem, there = f"Reading the prompt needs {gib(need.text)} of memory", max(free.device, free.host)
    raise ScopeError(f"{problem}, and {gib(there)} are free; {_mend(need, free, offload, shape, activations)}.")


def _mend(
    need: ClipNeed, free: FreeMemory, offload: str, shape: ClipShape, activations: Callable[[ClipShape], int]
) -> str:
    if offload != "auto" and place(need, free, "auto") is not None:
        return "use --offload auto"
    for height, width in ((shape.height, shape.width), (320, 544), (256, 448), (160, 288)):
        for frames in (shape.frames, 49, 17):
            candidate = ClipShape(min(frames, shape.frames), min(height, shape.height), min(width, shape.width))
            if place(replace(need, activations=activations(candidate)), free, "auto") is not None:
                size = f"--size {candidate.height}x{candidate.width} --frames {candidate.frames}"
                return f"{size} --offload auto would fit"
    return "no size of this model fits, so close other programs, or use --model nano, which runs in 1 GiB"
