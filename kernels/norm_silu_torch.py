"""PyTorch twin of `norm_silu`: the same arguments, the same roundings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-12


def norm_silu(x: Tensor, gain: Tensor, out: Tensor) -> None:
    """SiLU of the L2 norm over channels times `gain`, written into `out` (SPEC.md section 5).

    x, out: (B, C, T, H, W), channels-last; out may be some frames of a longer tensor. gain: (C,). No gradients.
    """
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(EPS)
    torch.div(x, norm, out=out)
    F.silu(out.mul_(gain.view(-1, 1, 1, 1)), inplace=True)
