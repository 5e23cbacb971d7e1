"""What this machine has, and which of the app's modes will run on it, found out without loading any weights."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scope_play.errors import ScopeError
from scope_play.loading.device import DTYPES, default_precision
from scope_play.loading.free_memory import FreeMemory, gib
from scope_play.loading.memory import Need, clip_need, text_bytes
from scope_play.loading.nano import native_config
from scope_play.loading.outlook import native_need
from scope_play.loading.placement import OFFLOADS, fits
from scope_play.loading.resolve import is_native, resolve
from scope_play.loading.scope import OFFICIAL_STREAM, PREVIEW, MemoryEstimate, MemoryOptions, find_preview
from scope_play.model.dit.config import SCOPE_5B
from scope_play.model.umt5.encoder import UMT5_XXL
from scope_play.model.wan_vae.config import WAN22_VAE
from scope_play.runtime.quantize import fp8_obstacle
from scope_play.sampling.clip import ClipShape, Sampling
from scope_play.weights.catalog import CATALOG, nano_folder
from scope_play.weights.download import checkpoint_folder
from scope_play.weights.official import open_scope_folder
from scope_play.weights.preview import WHERE_FROM
from scope_play.wire.header import CODECS
from scope_play.wire.video import make_decoder, make_encoder

SERVING = ("starlette", "uvicorn", "websockets")

LIGHTER = (
    ("--precision fp8", MemoryOptions("fp8"), "full"),
    ("--precision int8 --cache fp8", MemoryOptions("int8"), "fp8"),
    ("--precision int8 --cache fp8 --decoder tiny", MemoryOptions("int8", "tiny"), "fp8"),
)
"""Ways to play SCOPE with less memory: as they are asked for, and what they are."""
PACKAGES = ("numpy", "pygame-ce", "av", "triton", "transformers", "ftfy", "flash-attn")
WINDOWLESS = frozenset({"dummy", "offscreen"})


@dataclass(frozen=True)
class Mode:
    """A way to use the app: what it needs in bytes on its device, whether it will run here, and if not, why not."""

    name: str
    device: str
    needs: int
    runs: bool
    reason: str


@dataclass(frozen=True)
class Findings:
    """What `examine` found, by section; every value is ready for JSON."""

    software: dict[str, str]
    gpu: list[dict[str, Any]]
    memory: dict[str, int]
    disk: dict[str, int]
    display: dict[str, str]
    pads: list[str]
    kernels: dict[str, str]
    serving: dict[str, str]
    weights: dict[str, str]
    modes: list[Mode]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Findings:
    """Looks at everything. Never raises for what it finds missing."""
    from scope_play.kernels.dispatch import describe

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    display, weights = look_at_display(), look_at_weights()
    free = FreeMemory.now(device)
    return Findings(
        software=look_at_software(),
        gpu=look_at_gpus(),
        memory={"free_host": free.host, **({} if free.is_cpu else {"free_gpu": free.device})},
        disk=look_at_disk(),
        display=display,
        pads=look_at_pads(),
        kernels=describe(),
        serving=look_at_serving(),
        weights=weights,
        modes=list(judge_modes(free, device.type, weights, has_display="problem" not in display)),
    )


def look_at_software() -> dict[str, str]:
    found = {
        "scope-play": installed("scope-play"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processors": f"{os.cpu_count()}, torch uses {torch.get_num_threads()}",
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda or "none: a CPU build",
    }
    return found | {name: installed(name) for name in PACKAGES}


def installed(package: str) -> str:
    """Its version, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def look_at_gpus() -> list[dict[str, Any]]:
    gpus = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        gpus.append({"name": about.name, "capability": f"{about.major}.{about.minor}", "memory": total, "free": free})
    return gpus


def look_at_disk() -> dict[str, int]:
    """Free bytes where clips and weights would go."""
    places = {"here": Path.cwd(), "weights": checkpoint_folder("scope")}
    return {name: shutil.disk_usage(existing_parent(place)).free for name, place in places.items()}


def existing_parent(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def look_at_display() -> dict[str, str]:
    """The window system, or the `problem` with it."""
    import pygame

    try:
        pygame.display.init()
    except pygame.error as error:
        return {"problem": f"no window can be opened ({error})"}
    try:
        driver = pygame.display.get_driver()
        sizes = ", ".join(f"{width}x{height}" for width, height in pygame.display.get_desktop_sizes())
    finally:
        pygame.display.quit()
    if driver in WINDOWLESS:
        return {"driver": driver, "problem": f"SDL found no display and draws nowhere ({driver})"}
    return {"driver": driver, "screens": sizes}


def look_at_pads() -> list[str]:
    """Names of the gamepads that SDL sees."""
    import pygame

    try:
        pygame.joystick.init()
        return [pygame.joystick.Joystick(index).get_name() for index in range(pygame.joystick.get_count())]
    except pygame.error:
        return []
    finally:
        pygame.joystick.quit()


def look_at_serving() -> dict[str, str]:
    """What `scope-play serve` needs, and which codecs work here."""
    missing = [name for name in SERVING if installed(name) == "not installed"]
    found = {"packages": f"without {', '.join(missing)}: pip install 'scope-play[serve]'" if missing else "ready"}
    frame = np.zeros((96, 160, 3), np.uint8)
    for codec in CODECS:
        try:
            payload, _ = make_encoder(codec, 96, 160, 20).encode(frame, True)
            make_decoder(codec, 96, 160).decode(payload)
            found[codec] = "works"
        except Exception as error:  # noqa: BLE001 - whatever a codec's library says is what was found
            found[codec] = f"does not work ({error})"
    return found


def look_at_weights() -> dict[str, str]:
    """Every known model: "ready", or what is wrong with it."""
    found = {"nano": "ready" if is_native(nano_folder()) else "untrained: plays, but has learned nothing"}
    for entry in CATALOG.values():
        if entry.repository is None or entry.name != "scope":
            continue
        folder = checkpoint_folder(entry.name)
        try:
            if folder.is_dir():
                open_scope_folder(folder)
            found[entry.name] = "ready" if folder.is_dir() else f"not there: scope-play download {entry.name}"
        except ScopeError as error:
            found[entry.name] = str(error)
    try:
        find_preview(checkpoint_folder("scope"))
        found[PREVIEW] = "ready"
    except ScopeError:
        found[PREVIEW] = f"not there: {PREVIEW}.pth from {WHERE_FROM}, to be put into {checkpoint_folder(PREVIEW)}"
    return found


def judge_modes(free: FreeMemory, device: str, weights: dict[str, str], *, has_display: bool) -> Iterator[Mode]:
    """Each mode with its expected memory on `device`, and whether weights, memory and display allow it."""
    scope = None if weights["scope"] == "ready" else f"weights {weights['scope']}"
    window = None if has_display else "no display (--headless works)"
    precision = default_precision(torch.device(device))
    nano = native_need(native_config(resolve("nano")))
    yield judge("play nano", device, nano, free, "none", window)
    yield judge("play nano --headless", device, nano, free)
    on_gpu = device == "cuda"
    play = MemoryEstimate(SCOPE_5B, WAN22_VAE, DTYPES[precision], text=prompt_need(precision), on_gpu=on_gpu)
    yield judge("play scope", device, play.need(OFFICIAL_STREAM, MemoryOptions()), free, "none", scope, window)
    for words, options, keys in LIGHTER:
        tiny = f"weights {PREVIEW} not there" if options.decoder == "tiny" and weights[PREVIEW] != "ready" else None
        needed = play.need(replace(OFFICIAL_STREAM, cache=keys), options)
        yield judge(f"play scope {words}", device, needed, free, "none", scope, window, no_fp8(options, device), tiny)
    slow = play.need(OFFICIAL_STREAM, MemoryOptions(), "disk")
    yield judge("play scope --offload disk", device, slow, free, "disk", scope, window)
    clip = scope_clip_need(precision)
    for offload in OFFLOADS if device == "cuda" else ("none", "disk"):
        words = "" if offload == "none" else f" --offload {offload}"
        yield judge(f"generate with scope{words}", device, clip, free, offload, scope)


def no_fp8(options: MemoryOptions, device: str) -> str | None:
    """Why `options` cannot have its fp8 products on `device`; None when it can, or asks for none."""
    if options.linears != "fp8":
        return None
    obstacle = "needs an NVIDIA GPU" if device == "cpu" else fp8_obstacle(torch.device(device))
    return None if obstacle is None else f"fp8 {obstacle}"


def judge(name: str, device: str, need: Need, free: FreeMemory, offload: str = "none", *obstacles: str | None) -> Mode:
    on_device, on_host = need.on_device(offload), need.on_host(offload)
    memory = None
    if not fits(need, free, offload):
        if need.text > max(free.device, free.host):
            memory = f"reading a prompt takes {gib(need.text)}"
        elif on_device > free.device:
            memory = f"{gib(free.device)} are free"
        else:
            memory = f"its blocks take {gib(on_host)} of host memory, and {gib(free.host)} are free"
    reasons = [reason for reason in (memory, *obstacles) if reason is not None]
    return Mode(name, device, on_device, not reasons, "; ".join(reasons))


@cache
def scope_clip_need(precision: str) -> Need:
    """What an 81-frame clip of SCOPE takes, with prompts never read before."""
    text = prompt_need(precision)
    return clip_need(SCOPE_5B, WAN22_VAE, ClipShape(), Sampling(), DTYPES[precision], text=text)


@cache
def prompt_need(precision: str) -> int:
    return text_bytes(UMT5_XXL, DTYPES[precision], streamed=True)
