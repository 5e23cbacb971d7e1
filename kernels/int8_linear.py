# mypy: allow-untyped-defs, allow-incomplete-defs
"""A linear whose weight is int8: read as such, widened in registers, never written back in a wider type.

At SCOPE's 390 tokens a pass is bound by arithmetic on most cards, so the product runs on the tensor cores in the
activations' type; int8 halves the memory and the traffic of the weights. Tiles are 64 rows high, which wastes
13 % of 390 rows where 128 would waste 24 %. Programs that share weights start together and find them in L2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import Launch, ceil_power_of_2, refuse_grad
from scope_play.kernels.triton_primitives import INTERPRET, round_to

BLOCK_M = 64
BLOCK_N = 128
BLOCK_K = 64
STAGES = 3


@triton.jit
def int8_linear_kernel(
    x_ptr,
    data_ptr,
    weight_scale_ptr,
    bias_ptr,
    out_ptr,
    rows,
    columns,
    x_row,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    WITH_BIAS: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_rows, in_columns = row < rows, column < columns
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        inner = start + tl.arange(0, BLOCK_K)
        inside = inner < K
        x_at = x_ptr + row[:, None] * x_row + inner[None, :]
        x = tl.load(x_at, mask=in_rows[:, None] & inside[None, :], other=0.0)
        data_at = data_ptr + column[:, None] * K + inner[None, :]
        weight = tl.load(data_at, mask=in_columns[:, None] & inside[None, :], other=0)
        if INTERPRET:
            total += tl.dot(x.to(tl.float32), tl.trans(weight.to(tl.float32)), input_precision="ieee")
        else:
            total = tl.dot(x, tl.trans(weight.to(DTYPE)), total, input_precision="ieee")
    out = total * tl.load(weight_scale_ptr + column, mask=in_columns, other=0.0)[None, :]
    if WITH_BIAS:
        out += tl.load(bias_ptr + column, mask=in_columns, other=0.0).to(tl.float32)[None, :]
    at = out_ptr + row[:, None] * columns + column[None, :]
    tl.store(at, round_to(out, DTYPE, INTERPRET).to(DTYPE), mask=in_rows[:, None] & in_columns[None, :])


def plan(rows: int, inner: int, columns: int, *, with_bias: bool = True) -> Launch:
    block_m = min(BLOCK_M, max(16, ceil_power_of_2(rows)))
    constants = {
        "K": inner,
        "BLOCK_M": block_m,
        "BLOCK_N": BLOCK_N,
        "BLOCK_K": BLOCK_K,
        "STAGES": STAGES,
        "WITH_BIAS": with_bias,
        "INTERPRET": INTERPRET,
    }
    return Launch((triton.cdiv(rows, block_m), triton.cdiv(columns, BLOCK_N)), constants, 4)


def int8_linear(x: Tensor, data: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """See the twin in `int8_linear_torch`, which this equals. No gradients."""
    refuse_grad(x, bias)
    flat = x.reshape(-1, x.shape[-1])
    if flat.stride(1) != 1:
        flat = flat.contiguous()
    columns, inner = data.shape
    if inner != flat.shape[1] or not data.is_contiguous():
        raise ValueError(f"int8 weight {tuple(data.shape)} does not fit input {tuple(x.shape)}, or is not contiguous")
    out = torch.empty(flat.shape[0], columns, dtype=x.dtype, device=x.device)
    launch = plan(flat.shape[0], inner, columns, with_bias=bias is not None)
    int8_linear_kernel[launch.grid](
        flat,
        data,
        scale,
        scale if bias is None else bias,
        out,
        flat.shape[0],
        columns,
        flat.stride(0),
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out.unflatten(0, x.shape[:-1])
