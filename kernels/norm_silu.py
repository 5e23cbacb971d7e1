# mypy: allow-untyped-defs, allow-incomplete-defs
"""What stands before every convolution of the video autoencoder, as one read and one write.

Norm over channels, gain and SiLU of every pixel, written where the convolution reads them: behind the frames that it
remembers. One program owns a few pixels with all their channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import Launch, ceil_power_of_2, refuse_grad
from scope_play.kernels.norm_silu_torch import EPS
from scope_play.kernels.triton_primitives import INTERPRET, round_to

TILE = 2048
"""Elements a program holds, 16 a thread."""


@triton.jit
def norm_silu_kernel(
    x_ptr,
    gain_ptr,
    out_ptr,
    pixels,
    x_batch,
    out_batch,
    eps,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PIXELS: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    batch = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK_C)
    mask = (pixel < pixels)[:, None] & (column < C)[None, :]
    at = pixel[:, None] * C + column[None, :]
    x = tl.load(x_ptr + batch * x_batch + at, mask=mask, other=0.0).to(tl.float32)
    gain = tl.load(gain_ptr + column, mask=column < C, other=0.0).to(tl.float32)
    norm = tl.maximum(round_to(tl.sqrt(tl.sum(x * x, axis=1)), DTYPE, INTERPRET), eps)
    normed = round_to(x / norm[:, None], DTYPE, INTERPRET)
    scaled = round_to(normed * gain[None, :], DTYPE, INTERPRET)
    out = round_to(scaled / (1.0 + tl.exp(-scaled)), DTYPE, INTERPRET)
    tl.store(out_ptr + batch * out_batch + at, out.to(DTYPE), mask=mask)


def plan(batch: int, pixels: int, width: int) -> Launch:
    block = ceil_power_of_2(width)
    each = max(1, TILE // block)
    constants = {"C": width, "BLOCK_C": block, "PIXELS": each, "INTERPRET": INTERPRET}
    return Launch((triton.cdiv(pixels, each), batch), constants, 4)


def norm_silu(x: Tensor, gain: Tensor, out: Tensor) -> None:
    """See the twin in `norm_silu_torch`, which this equals. No gradients."""
    refuse_grad(x, gain)
    if x.shape != out.shape or out.shape[1] != gain.numel():
        raise ValueError(f"norm_silu of {tuple(x.shape)} with {gain.numel()} gains into {tuple(out.shape)}")
    if not _dense(x):
        x = x.contiguous(memory_format=torch.channels_last_3d)
    if not _dense(out):
        raise ValueError(f"norm_silu cannot write into strides {out.stride()}; give frames of a channels-last tensor")
    batch, width = x.shape[:2]
    pixels = x[0, 0].numel()
    launch = plan(batch, pixels, width)
    norm_silu_kernel[launch.grid](
        x, gain, out, pixels, x.stride(0), out.stride(0), EPS, **launch.constants, num_warps=launch.num_warps
    )


def _dense(x: Tensor) -> bool:
    """Whether the pixels of each of the batch lie one behind the other, all channels together."""
    _, channels, frames, height, width = x.shape
    wanted = (1, height * width * channels, width * channels, channels)
    sizes = (channels, frames, height, width)
    return all(size == 1 or got == want for size, got, want in zip(sizes, x.stride()[1:], wanted, strict=True))
