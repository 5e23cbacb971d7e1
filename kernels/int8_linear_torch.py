"""PyTorch twin of `int8_linear`: the same arguments; also the path for the CPU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def int8_linear(x: Tensor, data: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., in) times an int8 weight `data` (out, in) with float32 `scale` (out, 1) per row, plus bias (out,).

    int8 values are exact in every float type, so the scale waits until after the product.
    """
    product = F.linear(x, data.to(x.dtype)).float() * scale.flatten()
    return (product if bias is None else product + bias.float()).to(x.dtype)
