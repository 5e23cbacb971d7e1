"""The one place that decides between the Triton kernels and their PyTorch twins.

`SCOPE_PLAY_KERNELS` = auto (Triton where it can run), triton (or an error that says why not), torch. It is read when
`select` is called, so a model keeps what it was given and a test can ask for either.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.kernels.product_table import Products

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from scope_play.kernels.tuning import Cut

VARIABLE = "SCOPE_PLAY_KERNELS"
SETTINGS = ("auto", "triton", "torch")
MAX_LATENTS = 4
"""In a chunk, for the kernel of pixel attention."""
HEAD_DIMS = range(16, 129, 2)
MIN_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Kernels:
    """The operations a model calls, all from one backend. Signatures stand in the `*_torch` modules."""

    backend: str
    """"triton" or "torch"."""
    reason: str
    """Why this backend, for people."""
    pixel_attention: Callable[..., Tensor]
    button_attention: Callable[..., Tensor]
    norm_rope: Callable[..., Tensor]
    modulate: Callable[..., Tensor]
    gate_add: Callable[..., Tensor]
    action_fuse: Callable[..., Tensor]
    products: Products = field(default_factory=Products)
    """Linears that are faster by a kernel here; none unless a table says so."""


def select(device: torch.device | str, dtype: torch.dtype, *, heads: int, head_dim: int, latents: int = 1) -> Kernels:
    """Kernels for a model on `device` in `dtype`, with chunks of up to `latents` latent frames.

    Raises ScopeError when SCOPE_PLAY_KERNELS has an unknown value, or is `triton` where Triton cannot run.
    """
    obstacle = triton_obstacle(device, dtype, heads=heads, head_dim=head_dim)
    long = None if latents <= MAX_LATENTS else f"it knows chunks of up to {MAX_LATENTS} latents, not {latents}"
    if long is not None and _setting() == "triton":  # all of them were asked for
        obstacle = f"of pixel attention {long}"
    if _backend(obstacle) == "triton":
        reason = "Triton's interpreter" if _interpreting() else f"{VARIABLE}={_setting()}"
        kernels = triton_kernels(reason, *tuned_cuts(device, dtype, heads, head_dim, latents))
        kernels = replace(kernels, products=select_products(device, dtype))
        if long is None:
            return kernels
        twin = torch_kernels("").pixel_attention
        return replace(kernels, pixel_attention=twin, reason=f"{reason}; pixel attention in PyTorch, as {long}")
    if _setting() == "torch":
        return torch_kernels(f"{VARIABLE}=torch")
    return torch_kernels(obstacle or "Triton is interpreting, which only serves tests")


def select_int8_linear(device: torch.device | str, dtype: torch.dtype) -> Callable[..., Tensor]:
    """The product with an int8 weight, by the same rules as `select`."""
    obstacle = machine_obstacle(device, dtype)
    if _backend(obstacle) == "triton":
        from scope_play.kernels import int8_linear

        return int8_linear.int8_linear
    from scope_play.kernels import int8_linear_torch

    return int8_linear_torch.int8_linear


def select_products(device: torch.device | str, dtype: torch.dtype) -> Products:
    """The linears that a table, the user's before the shipped one, gives to a kernel here; none where none can run."""
    if _backend(machine_obstacle(device, dtype)) != "triton":
        return Products()
    from scope_play.kernels import product_table

    card = card_name(device)
    tables = product_table.load_tables(product_table.SHIPPED, product_table.table_path())
    mine = {key: cut for key, cut in tables.items() if key.startswith(f"{card} | ")}
    if not mine:
        return Products()
    from scope_play.kernels.product import make_counters, product

    return Products(card, mine, partial(product, counters=make_counters(device)))


def select_norm_silu(device: torch.device | str, dtype: torch.dtype) -> Callable[..., None]:
    """Norm, gain and SiLU before a convolution, by the same rules as `select`."""
    if _backend(machine_obstacle(device, dtype)) == "triton":
        from scope_play.kernels import norm_silu

        return norm_silu.norm_silu
    from scope_play.kernels import norm_silu_torch

    return norm_silu_torch.norm_silu


def convolve_in_pairs(device: torch.device | str, dtype: torch.dtype) -> bool:
    """Whether the autoencoder convolves frames in pairs: where that was measured to be faster and as exact.

    Sums of bfloat16 would be rounded once more, and on a GPU it was never tried.
    """
    import torch

    return torch.device(device).type != "cuda" and dtype == torch.float32


def machine_obstacle(device: torch.device | str, dtype: torch.dtype) -> str | None:
    """Why no Triton kernel can run on `device` in `dtype`, as half a sentence; None when they can."""
    import torch

    device = torch.device(device)
    if importlib.util.find_spec("triton") is None:
        return "the triton package is not installed (pip install 'scope-play[cuda]')"
    if not _interpreting():
        if device.type != "cuda":
            return f"Triton needs an NVIDIA GPU and the model is on {device}"
        capability = torch.cuda.get_device_capability(device)
        if capability < MIN_CAPABILITY:
            return f"{torch.cuda.get_device_name(device)} has compute capability {capability}, below {MIN_CAPABILITY}"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernels know float32, bfloat16 and float16, and the model is {dtype}"
    return None


def triton_obstacle(device: torch.device | str, dtype: torch.dtype, *, heads: int, head_dim: int) -> str | None:
    """Why the Triton kernels cannot serve this model, as half a sentence; None when they can."""
    if head_dim not in HEAD_DIMS or (heads * head_dim) % 8:
        return f"the kernels know even head sizes from 16 to 128 and widths in steps of 8, not {heads} x {head_dim}"
    return machine_obstacle(device, dtype)


def describe() -> dict[str, str]:
    """What this machine and environment lead to, for `doctor` and the benchmarks; never raises, loads no model."""
    import torch

    from scope_play.kernels.attention import backends

    report = {VARIABLE: os.environ.get(VARIABLE, "auto")}
    for package in ("torch", "triton"):
        found = importlib.util.find_spec(package) is not None
        report[package] = importlib.metadata.version(package) if found else "not installed"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    try:
        kernels = select(device, torch.bfloat16, heads=24, head_dim=128)
    except ScopeError as error:
        report["kernels"] = str(error)
    else:
        report["kernels"] = f"{kernels.backend} ({kernels.reason})"
    report["attention"] = ", ".join(f"{name}: {state}" for name, state in backends(torch.device(device)).items())
    return report


def _backend(obstacle: str | None) -> str:
    """ "triton" or "torch", given what stands in Triton's way."""
    setting = _setting()
    if setting == "triton" and obstacle is not None:
        raise ScopeError(f"{VARIABLE}=triton, but {obstacle}; unset it or use {VARIABLE}=torch")
    possible = obstacle is None and (setting == "triton" or not _interpreting())
    return "triton" if possible and setting != "torch" else "torch"


def _setting() -> str:
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in SETTINGS:
        raise ScopeError(f"{VARIABLE} is {setting!r}, but must be one of {', '.join(SETTINGS)}")
    return setting


def _interpreting() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    import triton

    return bool(triton.knobs.runtime.interpret)


def torch_kernels(reason: str) -> Kernels:
    from scope_play.kernels.button_attention_torch import button_attention
    from scope_play.kernels.modulate_torch import action_fuse, gate_add, modulate
    from scope_play.kernels.norm_rope_torch import norm_rope
    from scope_play.kernels.pixel_attention_torch import pixel_attention

    return Kernels("torch", reason, pixel_attention, button_attention, norm_rope, modulate, gate_add, action_fuse)


def triton_kernels(reason: str, pixel_cut: Cut, button_cut: Cut) -> Kernels:
    from scope_play.kernels.button_attention import button_attention
    from scope_play.kernels.modulate import action_fuse, gate_add, modulate
    from scope_play.kernels.norm_rope import norm_rope
    from scope_play.kernels.pixel_attention import pixel_attention

    pixels, buttons = partial(pixel_attention, cut=pixel_cut), partial(button_attention, cut=button_cut)
    return Kernels("triton", reason, pixels, buttons, norm_rope, modulate, gate_add, action_fuse)


def tuned_cuts(
    device: torch.device | str, dtype: torch.dtype, heads: int, head_dim: int, latents: int
) -> tuple[Cut, Cut]:
    """How this GPU's table cuts pixel and button attention, the defaults where it does not say."""
    from scope_play.kernels.tuning import TUNED, Cut, load_table, table_path

    table = load_table(table_path())
    keys = (tuning_entry(kernel, device, dtype, heads, head_dim, latents) for kernel in TUNED)
    pixels, buttons = (table.get(key, Cut()) for key in keys)
    return pixels, buttons


def tuning_entry(
    kernel: str, device: torch.device | str, dtype: torch.dtype, heads: int, head_dim: int, latents: int
) -> str:
    from scope_play.kernels.tuning import entry

    return entry(kernel, card_name(device), str(dtype).removeprefix("torch."), heads, head_dim, latents)


def card_name(device: torch.device | str) -> str:
    """What the tables call it."""
    import torch

    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
