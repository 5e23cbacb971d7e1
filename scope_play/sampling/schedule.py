"""The flow-matching schedule: noise levels, timesteps and the Euler step (SPEC.md section 6).

Latents are x = (1 - sigma) * clean + sigma * noise, the network predicts the velocity noise - clean, and sampling
walks sigma from 1 to 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scope_play.errors import ScopeError

TIMESTEPS = 1000.0
"""The network's time axis: timestep = 1000 * sigma."""


def make_sigmas(steps: int, shift: float) -> Tensor:
    """Noise levels of the `steps` denoising steps and the 0 they end at: float32 `(steps + 1,)`, from 1 down.

    A larger `shift` spends more steps at high noise.
    """
    if steps < 1:
        raise ScopeError(f"{steps} denoising steps cannot be made; use at least one.")
    if not shift > 0:
        raise ScopeError(f"A shift of {shift} is not possible; use a positive number such as 5.")
    linear = torch.linspace(1, 0, steps + 1, dtype=torch.float32)
    return shift * linear / (1 + (shift - 1) * linear)


def make_timesteps(sigmas: Tensor, dtype: torch.dtype) -> Tensor:
    """The network's timesteps for `sigmas`, float32 values rounded to `dtype`.

    The rounding is part of the model: in bfloat16 the released weights are sampled at 992, not at 990.6.
    """
    return (TIMESTEPS * sigmas).to(dtype).float()


def euler_step(latents: Tensor, velocity: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One step from noise level `sigma` to `sigma_next` (float32 scalars), rounded twice to the latents' dtype."""
    return latents + velocity * float(sigma_next - sigma)
