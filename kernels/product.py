# mypy: allow-untyped-defs, allow-incomplete-defs
"""A linear and what follows it, cut along its inner axis too, so that few rows keep every processor busy.

390 rows times a square weight of 3072 are 96 tiles of 128 x 128 on an H200's 132 processors. So the inner axis is cut
as well. A tile is `units` steps of BLOCK_K long; a program takes `share` of all tiles' units laid end to end:

    split-k     `parts` programs a tile, each an equal part of its steps
    stream-k    `parts` programs in all, each an equal part of all steps, over the ends of tiles

A program that has only a piece of a tile leaves its float32 sums in the workspace and counts its units at the tile;
whoever completes the count adds the pieces up, in the order of the inner axis whichever came last, so a result is the
same bit for bit from run to run, and sets the count back to zero for the next product. No one ever waits. Tiles that
share weights are neighbours, so that the weights come from memory once.

The product is rounded to the type of x before what follows it, as the separate operations do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from scope_play.kernels.launch import Launch, refuse_grad
from scope_play.kernels.product_table import SPLIT_K, ProductCut, epilogue
from scope_play.kernels.shapes import frame_rows
from scope_play.kernels.triton_primitives import INTERPRET, round_to

COUNTERS = 1 << 14
"""Tiles that one product may have."""
COUNTS = ["rows", "tokens", "frames", "tiles_down", "tiles", "units", "share", "slots"]
"""Arguments that never make Triton compile anew."""


@triton.jit(do_not_specialize=COUNTS)
def product_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    residual_ptr,
    gate_ptr,
    out_ptr,
    partial_ptr,
    arrived_ptr,
    rows,
    columns,
    inner,
    x_row,
    weight_row,
    residual_row,
    gate_batch,
    gate_frame,
    tokens,
    frames,
    tiles_down,
    tiles,
    units,
    share,
    slots,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    WHOLE_STEPS: tl.constexpr,
    WITH_BIAS: tl.constexpr,
    GELU: tl.constexpr,
    ADD: tl.constexpr,
    GATE: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    DTYPE: tl.constexpr = out_ptr.dtype.element_ty
    program = tl.program_id(0)
    steps = tl.cdiv(inner, BLOCK_K)
    in_tile = tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    unit = program * share
    end = tl.minimum(unit + share, tiles * units)
    while unit < end:
        tile = unit // units
        start = tile * units
        begin, stop = unit - start, tl.minimum(end - start, units)
        row = (tile % tiles_down) * BLOCK_M + tl.arange(0, BLOCK_M)
        column = (tile // tiles_down) * BLOCK_N + tl.arange(0, BLOCK_N)
        x_at = x_ptr + tl.minimum(row, rows - 1)[:, None] * x_row
        weight_at = weight_ptr + tl.minimum(column, columns - 1)[None, :] * weight_row
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in tl.range(begin, tl.minimum(stop, steps), num_stages=STAGES):
            k = step * BLOCK_K + tl.arange(0, BLOCK_K)
            if WHOLE_STEPS:
                x = tl.load(x_at + k[None, :])
                weight = tl.load(weight_at + k[:, None])
            else:
                x = tl.load(x_at + k[None, :], mask=(k < inner)[None, :], other=0.0)
                weight = tl.load(weight_at + k[:, None], mask=(k < inner)[:, None], other=0.0)
            if INTERPRET:
                total += tl.dot(x.to(tl.float32), weight.to(tl.float32), input_precision="ieee")
            else:
                total = tl.dot(x, weight, total, input_precision="ieee")

        complete = stop - begin == units
        if stop - begin < units:
            # Of a program's two pieces at most one begins a tile and at most one does not. It is written with `unit`,
            # so that the compiler keeps no addresses of it in registers through the product.
            slot = unit // share * slots + tl.where(begin == 0, slots - 1, 0)
            tl.store(partial_ptr + slot * BLOCK_M * BLOCK_N + in_tile, total)
            tl.debug_barrier()
            arrived = tl.atomic_add(arrived_ptr + tile, stop - begin, sem="acq_rel", scope="gpu")
            complete = arrived + stop - begin == units
            if complete:
                total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
                for other in tl.range(start // share, (start + units - 1) // share + 1, num_stages=1):
                    slot = other * slots + tl.where(other * share <= start, slots - 1, 0)
                    piece = partial_ptr + slot * BLOCK_M * BLOCK_N + in_tile
                    total += tl.load(piece, cache_modifier=".cg")
                tl.store(arrived_ptr + tile, 0)

        if complete:
            in_columns = column < columns
            inside = (row < rows)[:, None] & in_columns[None, :]
            y = total
            if WITH_BIAS:
                y += tl.load(bias_ptr + column, mask=in_columns, other=0.0).to(tl.float32)[None, :]
            y = round_to(y, DTYPE, INTERPRET)
            if GELU:
                # As in action_fuse: no tanh, and right at both ends.
                u = 0.7978845608028654 * (y + 0.044715 * y * y * y)
                y = round_to(y / (1.0 + tl.exp(-2.0 * u)), DTYPE, INTERPRET)
            if GATE:
                frame = row // tokens
                at = gate_ptr + (frame // frames) * gate_batch + (frame % frames) * gate_frame
                y *= tl.load(at[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)
            if ADD:
                at = residual_ptr + row[:, None] * residual_row + column[None, :]
                y = round_to(tl.load(at, mask=inside, other=0.0).to(tl.float32) + y, DTYPE, INTERPRET)
            tl.store(out_ptr + row[:, None] * columns + column[None, :], y.to(DTYPE), mask=inside)
        unit = start + stop


class Division(NamedTuple):
    """How the steps of all tiles are dealt out; see the head of this file. slots: pieces a program may have."""

    tiles_down: int
    tiles: int
    units: int
    share: int
    slots: int
    programs: int


def divide(rows: int, inner: int, columns: int, cut: ProductCut) -> Division:
    """No program is left without steps, so there may be fewer than `cut` asks for."""
    tiles_down = triton.cdiv(rows, cut.rows)
    tiles, steps = tiles_down * triton.cdiv(columns, cut.columns), triton.cdiv(inner, cut.inner)
    if cut.way == SPLIT_K:
        share = triton.cdiv(steps, cut.parts)
        splits = triton.cdiv(steps, share)
        return Division(tiles_down, tiles, splits * share, share, 1, tiles * splits)
    share = triton.cdiv(tiles * steps, cut.parts)
    return Division(tiles_down, tiles, steps, share, 2, triton.cdiv(tiles * steps, share))


def plan(rows: int, inner: int, columns: int, cut: ProductCut, then: str = "none", with_bias: bool = True) -> Launch:
    """`then` is the table's word for what follows the product."""
    constants = {
        "BLOCK_M": cut.rows,
        "BLOCK_N": cut.columns,
        "BLOCK_K": cut.inner,
        "STAGES": cut.stages,
        "WHOLE_STEPS": inner % cut.inner == 0,
        "WITH_BIAS": with_bias,
        "GELU": then == "gelu",
        "ADD": then in ("add", "gate_add"),
        "GATE": then == "gate_add",
        "INTERPRET": INTERPRET,
    }
    return Launch((divide(rows, inner, columns, cut).programs,), constants, cut.warps)


def make_counters(device: torch.device | str) -> Tensor:
    """What `product` counts pieces with. Products that may run at the same time need counters of their own."""
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    cut: ProductCut,
    counters: Tensor,
    gelu: bool = False,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """See the twin in `product_torch`, which this equals. `counters` are all zero before and after. No gradients."""
    refuse_grad(x, weight, bias, residual, gate)
    columns, inner = weight.shape
    if inner != x.shape[-1]:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit input {tuple(x.shape)}")
    out = torch.empty(*x.shape[:-1], columns, dtype=x.dtype, device=x.device)
    flat, weight = even_rows(x), weight if weight.stride(1) == 1 else weight.contiguous()
    frames, tokens = x.shape[1:3]
    rows = len(flat)
    added = out if residual is None else even_rows(residual)
    if residual is not None and residual.shape != out.shape:
        raise ValueError(f"residual {tuple(residual.shape)} does not fit the product {tuple(out.shape)}")
    gates = out if gate is None else frame_rows(gate, out)
    if gates.stride(3) != 1:
        gates = gates.contiguous()
    then = epilogue(gelu, residual is not None, gate is not None)
    launch = plan(rows, inner, columns, cut, then, bias is not None)
    work = divide(rows, inner, columns, cut)
    if work.tiles > len(counters):
        raise ValueError(f"a product of {work.tiles} tiles, but there are {len(counters)} counters; use larger tiles")
    pieces = 0 if work.share % work.units == 0 else work.programs * work.slots
    partial = torch.empty(max(1, pieces * cut.rows * cut.columns), dtype=torch.float32, device=x.device)
    product_kernel[launch.grid](
        flat,
        weight,
        out if bias is None else bias,
        added,
        gates,
        out,
        partial,
        counters,
        rows,
        columns,
        inner,
        flat.stride(0),
        weight.stride(0),
        added.stride(-2),
        gates.stride(0),
        gates.stride(1),
        tokens,
        frames,
        *work[:5],
        **launch.constants,
        num_warps=launch.num_warps,
    )
    return out


def even_rows(x: Tensor) -> Tensor:
    """x (B, n, S, C) as (B n S, C), without copying where rows are evenly spaced."""
    flat = x.flatten(0, -2)
    return flat if flat.stride(1) == 1 else flat.contiguous()
