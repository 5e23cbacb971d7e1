"""PyTorch twin of `product`: the separate operations that it stands for, one after the other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from scope_play.kernels.modulate_torch import gate_add


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    gelu: bool = False,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """x (B, n, S, in) times weight (out, in), plus bias (out,), and what follows it: -> (B, n, S, out).

    gelu: its tanh-GELU. residual (B, n, S, out): added to it, the product times `gate` (B or 1, n or 1, 1, out) where
    there is one, as in `gate_add`. Each step is rounded to the type of x.
    """
    y = F.linear(x, weight, bias)
    if gelu:
        y = F.gelu(y, approximate="tanh")
    if residual is None:
        return y
    return residual + y if gate is None else gate_add(residual, y, gate)
