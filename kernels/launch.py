"""Host side of the Triton kernels: how work is cut, and what the tensors must look like before a pointer is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scope_play.kernels.fp8 import Remembered
from scope_play.kernels.shapes import ChunkShape, Rotation


@dataclass(frozen=True)
class Launch:
    """One way to start a kernel. The ahead-of-time check (`aot.py`) compiles the same constants that a launch uses."""

    grid: tuple[int, ...]
    constants: dict[str, Any]
    num_warps: int


def ceil_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def head_tile(shape: ChunkShape, tile: int) -> tuple[int, int, int]:
    """(heads a program takes, padded head size, warps) for `tile` elements of a cache slot a program.

    Every thread holds 8 neighbouring elements of one head: 16 bytes in 16-bit types.
    """
    padded = ceil_power_of_2(shape.head_dim)
    heads = min(ceil_power_of_2(shape.heads), max(1, tile // padded))
    return heads, padded, max(1, heads * padded // 256)


def row_warps(block: int) -> int:
    """Warps for a program that holds one row of `block` elements, 16 a thread."""
    return min(8, max(1, block // 512))


def token_rows(x: Tensor) -> tuple[Tensor, int]:
    """x (B, n, S, C) with evenly spaced rows (a slice of a fused projection has them), and the step between rows."""
    batch, latents, tokens, _ = x.shape
    _, latent_stride, row, inner = x.stride()
    if tokens == 1:
        row = latent_stride
    expected = (latents * tokens * row, tokens * row)
    even = all(
        size == 1 or got == want for size, got, want in zip((batch, latents), x.stride(), expected, strict=False)
    )
    if inner != 1 or not even or row < x.shape[3]:
        x = x.contiguous()
        row = x.shape[3]
    return x, row


def slot_strides(k_cache: Tensor, v_cache: Tensor) -> tuple[int, int]:
    """(batch, slot) strides of both caches, whose tokens, heads and channels must lie densely inside a slot."""
    _, _, tokens, heads, head_dim = k_cache.shape
    dense = (heads * head_dim if tokens > 1 else k_cache.stride(2), head_dim, 1)
    if k_cache.stride() != v_cache.stride() or k_cache.shape != v_cache.shape or k_cache.stride()[2:] != dense:
        raise ValueError(
            f"caches must be alike and dense inside a slot, got strides {k_cache.stride()} and {v_cache.stride()}"
        )
    return k_cache.stride(0), k_cache.stride(1)


def rounded_arguments(remembered: Remembered) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], tuple[int, int]]:
    """(bits of keys and values, their scales), (batch, slot) strides of the bits. All must be contiguous."""
    (keys, key_scale), (values, value_scale) = remembered
    if not all(x.is_contiguous() for x in (keys, values, key_scale, value_scale)):
        raise ValueError("what is remembered in 8 bits must be contiguous")
    bits = keys.view(torch.uint8), values.view(torch.uint8)
    return (*bits, key_scale, value_scale), (keys.stride(0), keys.stride(1))


def angle_table(rotation: Rotation, rows: int, head_dim: int) -> Rotation:
    """cos and sin as contiguous float32 tables (rows, head_dim / 2)."""
    cos, sin = (table.reshape(-1, head_dim // 2).contiguous() for table in rotation)
    if cos.shape[0] != rows or cos.dtype != torch.float32:
        raise ValueError(f"rotation of {cos.shape[0]} rows in {cos.dtype} where {rows} rows in float32 are needed")
    return Rotation(cos, sin)


def refuse_grad(*tensors: Tensor | None) -> None:
    """The kernels have no backward: raises RuntimeError rather than training nothing in silence."""
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise RuntimeError("the Triton kernels have no backward; train with SCOPE_PLAY_KERNELS=torch or under no_grad")
