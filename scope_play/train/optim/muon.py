"""Muon for the matrices inside a network, AdamW for everything else, as one optimiser with named state.

Muon (Jordan et al. 2024): the momentum of each matrix is replaced by the nearest orthogonal matrix, found by a few
Newton-Schulz steps, and scaled so that one learning rate suits both halves (Liu et al. 2025, "Muon is scalable").
Matrices of equal shape are orthogonalised together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from scope_play.train.optim.precision import fast_bf16

_QUINTIC = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class OptimiserConfig:
    """`lr` is the change of a weight per step in units of 0.2 (Muon) or of about 1 (AdamW, times `adam_scale`).

    It rises over `warmup` steps and falls to zero from the first to the last step of `decay`, which must be given for
    it to fall: a run bounded by minutes does not know its last step. Without `muon` AdamW takes the matrices too:
    orthogonalising them costs a CPU as much as a batch does.

    Raises ValueError for a decay that ends before it begins.
    """

    lr: float = 2e-3
    adam_scale: float = 0.5
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup: int = 50
    decay: tuple[int, int] | None = None
    max_norm: float = 1.0
    newton_schulz_steps: int = 5
    muon: bool = True

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay[0] < self.decay[1]:
            raise ValueError(f"decay {self.decay} must be a first and a later step")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        if self.decay is None:
            return self.lr * rising
        first, last = self.decay
        return self.lr * rising * min(1.0, max(0.0, (last - step) / (last - first)))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """(N, rows, columns) -> the same with singular values near 1 (between about 0.7 and 1.2).

    bfloat16 suffices, where it is fast.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    x = x.to(torch.bfloat16 if fast_bf16(x.device) else torch.float32)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x.mT if tall else x


class MuonAdamW:
    """Optimises named parameters. `matrix_names` go to Muon, flattened to (rows, rest); all others to AdamW."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], matrix_names: Iterable[str], config: OptimiserConfig
    ) -> None:
        self.config = config
        self.parameters = dict(parameters)
        self._matrices = set(matrix_names) if config.muon else set()
        unknown = self._matrices - set(self.parameters)
        if unknown:
            raise ValueError(f"not among the parameters: {sorted(unknown)[0]}")
        self._state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            self._state[f"{name}/momentum"] = torch.zeros_like(parameter)
            if name not in self._matrices:
                self._state[f"{name}/square"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def update(self, gradients: Mapping[str, Tensor], step: int) -> float:
        """One step. `step` counts from 0. Returns the norm of the gradient; if that is not finite nothing changes."""
        config = self.config
        norm = torch.stack(torch._foreach_norm(list(gradients.values()))).norm()
        if not torch.isfinite(norm):
            return float(norm)
        clip = (config.max_norm / (norm + 1e-6)).clamp(max=1.0)
        clipped = dict(zip(gradients, torch._foreach_mul(list(gradients.values()), clip), strict=True))
        rate = config.rate(step)
        groups: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name, gradient in clipped.items():
            if name in self._matrices:
                matrix = gradient.flatten(1)
                groups[matrix.shape[0], matrix.shape[1]].append(name)
        self._adamw([name for name in clipped if name not in self._matrices], clipped, rate * config.adam_scale, step)
        for shape, names in groups.items():
            self._muon(shape, names, clipped, rate)
        return float(norm)

    def _muon(self, shape: tuple[int, int], names: list[str], gradients: Mapping[str, Tensor], rate: float) -> None:
        momentum = self.config.momentum
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        given, mine = [gradients[name] for name in names], self._of(names, "momentum")
        torch._foreach_lerp_(mine, given, 1 - momentum)
        nesterov = [matrix.flatten(1) for matrix in torch._foreach_lerp(given, mine, momentum)]
        updates = orthogonalise(torch.stack(nesterov), self.config.newton_schulz_steps)
        torch._foreach_mul_(parameters, 1 - rate * self.config.weight_decay)
        shaped = [update.reshape(one.shape) for update, one in zip(updates, parameters, strict=True)]
        torch._foreach_add_(parameters, shaped, alpha=-rate * 0.2 * max(shape) ** 0.5)

    def _adamw(self, names: list[str], gradients: Mapping[str, Tensor], rate: float, step: int) -> None:
        if not names:
            return
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        beta1, beta2 = self.config.betas
        first, second = self._of(names, "momentum"), self._of(names, "square")
        given = [gradients[name] for name in names]
        torch._foreach_lerp_(first, given, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, given, given, 1 - beta2)
        corrected = torch._foreach_sqrt(torch._foreach_div(second, 1 - beta2 ** (step + 1)))
        torch._foreach_add_(corrected, 1e-8)
        # As usual, of matrices alone: norms and biases do not shrink.
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        if matrices:
            torch._foreach_mul_(matrices, 1 - rate * self.config.weight_decay)
        torch._foreach_addcdiv_(parameters, first, corrected, -rate / (1 - beta1 ** (step + 1)))

    def _of(self, names: list[str], what: str) -> list[Tensor]:
        return [self._state[f"{name}/{what}"] for name in names]

    def cool(self, first: int, last: int) -> None:
        """Let the rate fall to zero from the first to the last of these steps."""
        self.config = replace(self.config, decay=(first, last))

    def state(self) -> dict[str, Tensor]:
        return self._state

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self._state.items():
            tensor.copy_(state[name])


def hidden_matrices(model: nn.Module, prefixes: tuple[str, ...]) -> list[str]:
    """Names of the trainable weights with two or more axes under these prefixes: what Muon is made for."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.ndim >= 2
        and min(parameter.flatten(1).shape) > 1
        and name.startswith(prefixes)
    ]
