"""Where a model goes so that it fits, or the sentence that says what would fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from scope_play.errors import ScopeError
from scope_play.loading.free_memory import FreeMemory, gib
from scope_play.loading.memory import OFFLOADS, Need
from scope_play.sampling.clip import ClipShape

CHOICES = ("auto", *OFFLOADS)


def fits(need: Need, free: FreeMemory, offload: str) -> bool:
    """Whether all moments of a way of using a model fit."""
    device, host = need.on_device(offload), need.on_host(offload)
    if need.text > max(free.device, free.host):
        return False
    return device + host <= free.host if free.is_cpu else device <= free.device and host <= free.host


def place(need: Callable[[str], Need], free: FreeMemory, offload: str) -> str | None:
    """The offloading that fits, one of OFFLOADS, or None. "auto" keeps as much on the device as it can.

    `need` is that with each offloading. On a CPU blocks in host memory gain nothing over those on the device.
    """
    modes: Iterable[str] = OFFLOADS if offload == "auto" else (offload,)
    return next((mode for mode in modes if fits(need(mode), free, mode)), None)


def require_place(
    need: Callable[[str], Need],
    free: FreeMemory,
    offload: str,
    task: str,
    lighter: Iterable[tuple[str, Need]],
    *,
    in_real_time: bool = False,
) -> str:
    """As `place`, or a ScopeError that says what would fit.

    task: what is asked for, such as "This clip". lighter: other settings, as they are written on the command line, with
    what they need. in_real_time: offloading, which takes many times as long, is the last thing to offer.
    """
    if offload not in CHOICES:
        raise ScopeError(f"offload {offload!r} is not known; use one of {', '.join(CHOICES)}")
    mode = place(need, free, offload)
    if mode is not None:
        return mode
    asked = "none" if offload == "auto" else offload
    known, where = need(asked), "memory" if free.is_cpu else "GPU memory"
    problem, there = f"{task} needs {gib(known.on_device(asked))} of {where}", free.device
    if known.text > max(free.device, free.host):
        problem, there = f"Reading the prompt needs {gib(known.text)} of memory", max(free.device, free.host)
    elif known.on_device(asked) <= free.device:
        problem, there = f"{task} needs {gib(known.on_host(asked))} of host memory", free.host
    raise ScopeError(f"{problem}, and {gib(there)} are free; {_mend(need, free, lighter, in_real_time)}.")


def _mend(
    need: Callable[[str], Need], free: FreeMemory, lighter: Iterable[tuple[str, Need]], in_real_time: bool
) -> str:
    ways = [("", need(mode), mode) for mode in OFFLOADS]
    lighter = list(lighter)
    whole = [(words, other, "none") for words, other in lighter]
    ways = [*whole, *ways] if in_real_time else [*ways, *whole]
    ways += [(words, other, "disk") for words, other in lighter]
    for words, other, mode in ways:
        if fits(other, free, mode):
            offload = "" if mode == "none" else f"--offload {mode}"
            return f"close other programs, or use {' '.join(filter(None, (words, offload)))}"
    return "no way of using this model fits, so close other programs, or use --model nano, which runs in 1 GiB"


def smaller_clips(shape: ClipShape) -> Sequence[ClipShape]:
    """Shapes to offer where `shape` does not fit, the largest first."""
    sizes = ((shape.height, shape.width), (320, 544), (256, 448), (160, 288))
    found = [
        ClipShape(min(frames, shape.frames), min(height, shape.height), min(width, shape.width))
        for height, width in sizes
        for frames in (shape.frames, 49, 17)
    ]
    return [one for one in dict.fromkeys(found) if one != shape]
