"""PyTorch twins of `modulate`, `gate_add` and `action_fuse`: the same arguments, the same roundings; also for training.

x (B, n, S, C) throughout; what belongs to a latent frame is (B, n, 1, C), or 1 in place of B or n.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def modulate(x: Tensor, shift: Tensor, scale: Tensor, *, eps: float = 1e-6) -> Tensor:
    """LayerNorm without weights, then (1 + scale) and shift of the token's latent frame (SPEC.md section 3)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


def gate_add(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + gate * y, the gate per latent frame: the residual of self-attention and of the feed-forward part."""
    return torch.addcmul(x, gate, y)


def action_fuse(hidden: Tensor, frame: Tensor) -> Tensor:
    """tanh-GELU of hidden + frame: the mouse MLP's first layer, whose action half is one vector per latent frame."""
    return F.gelu(hidden + frame, approximate="tanh")
