"""A block's linears with what follows them: in one kernel where the table names one for their shape (`product_table`).

Everywhere else, and for linears in 8 bits, the separate operations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from scope_play.kernels import Kernels
from scope_play.model.dit.config import DiTConfig


class LinearShape(NamedTuple):
    """A linear's inner size and columns, the table's word for what follows it, and how many a block has."""

    name: str
    inner: int
    columns: int
    epilogue: str
    in_block: int = 1


def block_linears(config: DiTConfig) -> list[LinearShape]:
    """Those of a fused block that tokens go through, each shape once."""
    dim, ffn = config.dim, config.ffn_dim
    text, action = int(config.text_dim is not None), int(config.action is not None)
    found = [
        LinearShape("queries, keys, values", dim, 3 * dim, "none", 1 + action),
        LinearShape("output of frames", dim, dim, "gate_add"),
        LinearShape("feed-forward, first", dim, ffn, "gelu"),
        LinearShape("feed-forward, second", ffn, dim, "gate_add"),
    ]
    if text or action:
        found.append(LinearShape("text, sticks, buttons", dim, dim, "none", text + 3 * action))
        found.append(LinearShape("output of those", dim, dim, "add", text + 2 * action))
    return found


def project(kernels: Kernels, layer: nn.Module, x: Tensor) -> Tensor:
    """layer(x), for x (B, n, S, C)."""
    made = _fused(kernels, layer, x)
    return layer(x) if made is None else made


def project_gelu(kernels: Kernels, layer: nn.Module, x: Tensor) -> Tensor:
    """The tanh-GELU of layer(x)."""
    made = _fused(kernels, layer, x, gelu=True)
    return F.gelu(layer(x), approximate="tanh") if made is None else made


def project_add(kernels: Kernels, layer: nn.Module, x: Tensor, residual: Tensor, gate: Tensor | None = None) -> Tensor:
    """residual + layer(x), or + gate * layer(x) with a `gate` for each latent frame, as in `gate_add`."""
    made = _fused(kernels, layer, x, residual=residual, gate=gate)
    if made is not None:
        return made
    y = layer(x)
    return residual + y if gate is None else kernels.gate_add(residual, y, gate)


def _fused(
    kernels: Kernels,
    layer: nn.Module,
    x: Tensor,
    *,
    gelu: bool = False,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor | None:
    if type(layer) is not nn.Linear:
        return None
    return kernels.products.fused(x, layer.weight, layer.bias, gelu=gelu, residual=residual, gate=gate)
