"""The big attentions (video self-attention, text): PyTorch's own by default, flash-attn where it is installed.

`SCOPE_PLAY_ATTENTION` = auto, flash3 (Hopper), flash2 (Ampere and later), sdpa; read when `select_attention` is called.
Heads stay last, (B, L, heads, D), as the cache holds them: flash-attn reads that directly, SDPA through a view.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.errors import ScopeError

VARIABLE = "SCOPE_PLAY_ATTENTION"
FLASH = {"flash3": ("flash_attn_interface", (9, 0), (9, 0)), "flash2": ("flash_attn", (8, 0), (12, 0))}
"""name -> (module, least and greatest compute capability)."""


@dataclass(frozen=True)
class Attention:
    """Softmax attention q (B, Lq, heads, D), k and v (B, Lk, heads, D) -> (B, Lq, heads, D), everyone sees everyone."""

    backend: str
    call: Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The default, and the only one that takes a `bias` (B or 1, heads or 1, Lq or 1, Lk) on the scores."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention with gradients. q (B, heads, Lq, D), k and v (B, heads, Lk, D), mask (Lq, Lk) True where seen.

    With a mask it is written out on the CPU: there the backward of the fused kernel costs twice as much.
    """
    if mask is None or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def backends(device: torch.device) -> dict[str, str]:
    """Every backend and "available", or why it is not."""
    return {name: _flash_obstacle(name, device) or "available" for name in FLASH} | {"sdpa": "available"}


def select_attention(device: torch.device | str, dtype: torch.dtype) -> Attention:
    """Raises ScopeError when SCOPE_PLAY_ATTENTION is unknown or asks for what this machine cannot do."""
    device = torch.device(device)
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in ("auto", "sdpa", *FLASH):
        raise ScopeError(f"{VARIABLE} is {setting!r}, but must be one of auto, {', '.join(FLASH)}, sdpa")
    for name in FLASH if setting == "auto" else [setting]:
        if name == "sdpa":
            break
        obstacle = _flash_obstacle(name, device)
        if obstacle is None and dtype not in (torch.float16, torch.bfloat16):
            obstacle = f"flash-attn knows float16 and bfloat16, not {dtype}"
        if obstacle is None:
            found = try_flash(name, *(probe(device, dtype) for _ in range(3)))
            if not isinstance(found, str):
                return Attention(name, found)
            obstacle = found
        if setting == name:
            raise ScopeError(f"{VARIABLE}={name}, but {obstacle}; unset it or use {VARIABLE}=sdpa")
    return Attention("sdpa", sdpa)


def probe(device: torch.device, dtype: torch.dtype) -> Tensor:
    """What an attention is tried out with, (1, 16, 1, 128)."""
    return torch.ones(1, 16, 1, 128, device=device, dtype=dtype)


def try_flash(name: str, q: Tensor, k: Tensor, v: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor] | str:
    """The installed flash-attn, if it computes; else why it does not, as half a sentence.

    A build for another torch or GPU is installed and does not even import; some return a pair.
    """
    try:
        call = importlib.import_module(FLASH[name][0]).flash_attn_func
        made = call(q, k, v)
    except Exception as error:  # noqa: BLE001 - a foreign extension can raise anything
        return f"{FLASH[name][0]} does not work here ({str(error).strip().splitlines()[:1] or type(error).__name__})"
    return call if isinstance(made, Tensor) else lambda q, k, v: call(q, k, v)[0]


def _flash_obstacle(name: str, device: torch.device) -> str | None:
    module, least, greatest = FLASH[name]
    if device.type != "cuda":
        return f"{name} needs an NVIDIA GPU"
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    capability = torch.cuda.get_device_capability(device)
    if not least <= capability <= greatest:
        return f"{name} serves compute capability {least} to {greatest}, not {capability}"
    return None
