"""The trainer of every method: micro-batches, optimisers, precision, and what is saved. The loop is `train.loop.Run`.

On several ranks each computes its share of a step's samples, with the draws that one alone would make for them, so that
any number of ranks learns the same to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.train.loop import generator, part
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.method import Method
from scope_play.train.parallel.ranks import Ranks, clip_gradients


@dataclass(frozen=True)
class TrainerConfig:
    """batch: samples of a step on all ranks; micro_batch: of a pass. rates: learning rate by role, `lr` for the others.
    warmup: steps in which the rate rises. decay: of weights that are matrices, per step and unit of rate. clip: largest
    norm of a role's gradient."""

    batch: int = 8
    micro_batch: int = 1
    latents: int = 21
    lr: float = 1e-5
    critic_lr: float = 2e-6
    warmup: int = 100
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0


class LatentSource(Protocol):
    """Encoded clips by step; the same step gives the same samples, whoever asks for which of them."""

    def batch(self, samples: range, latents: int, step: int) -> ClipBatch: ...


class MethodTrainer:
    """`networks` by role; those that the method trains learn what in them asks for gradients."""

    def __init__(
        self,
        kind: str,
        method: Method,
        networks: Mapping[str, nn.Module],
        source: LatentSource,
        config: TrainerConfig,
        *,
        described: Mapping[str, Any],
        seed: int = 0,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """`described`: what the networks are, for the checkpoint. Raises ScopeError for roles that are not given, and
        for batches that do not divide among ranks."""
        self.kind, self.method, self.networks, self.config = kind, method, networks, config
        self.ranks = ranks or Ranks.alone()
        self._source, self._described, self._seed = source, described, seed
        self._device, self._bf16 = torch.device(device), bf16
        missing = method.roles.keys() - networks.keys()
        if missing:
            raise ScopeError(f"{kind} needs a network as {', '.join(sorted(missing))}; give its weights")
        if config.batch % (self.ranks.count * config.micro_batch):
            raise ScopeError(
                f"a batch of {config.batch} does not divide among {self.ranks.count} ranks in micro-batches of "
                f"{config.micro_batch}; change batch or micro_batch"
            )
        self.trained = [role for role, learns in method.roles.items() if learns]
        for role in method.roles.keys() - set(self.trained):
            networks[role].requires_grad_(False)
        self._parameters = {
            role: {name: p for name, p in networks[role].named_parameters() if p.requires_grad} for role in self.trained
        }
        self._optimisers = {role: self._optimiser(role) for role in self.trained}
        self._cooling: tuple[int, int] | None = None

    def _optimiser(self, role: str) -> torch.optim.AdamW:
        parameters = list(self._parameters[role].values())
        matrices = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.config.decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=self._rate(role), betas=self.config.betas)

    def _rate(self, role: str) -> float:
        return self.config.critic_lr if role == "critic" else self.config.lr

    def batch(self, step: int) -> ClipBatch:
        """This rank's share of the step's samples."""
        share = self.config.batch // self.ranks.count
        begin = self.ranks.rank * share
        return self._source.batch(range(begin, begin + share), self.config.latents, step)

    def update(self, batch: ClipBatch, step: int) -> dict[str, float]:
        """One step. If a gradient is not finite, on whatever rank, nothing changes and the metrics say so."""
        metrics: dict[str, Tensor] = {}
        learned: set[str] = set()
        micro = self.config.micro_batch
        parts = list(batch.to(self._device).split(micro))
        first = self.ranks.rank * len(parts)
        for number, samples in enumerate(parts):
            draw = generator(self._seed, f"{self.kind}/noise/{first + number}", step, self._device)
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
                losses = self.method.losses(self.networks, samples, step, draw)
            for role, loss in losses.by_role.items():
                (loss / len(parts)).backward()
                learned.add(role)
            for name, value in losses.metrics.items():
                metrics[name] = metrics.get(name, torch.zeros((), device=self._device)) + value.detach() / len(parts)
        norms = {role: clip_gradients(self._parameters[role].values(), self.config.clip) for role in sorted(learned)}
        metrics |= {f"{role}_gradient_norm": norm for role, norm in norms.items()}
        found = self.ranks.mean(metrics)
        if all(math.isfinite(value) for value in found.values()):
            for role in norms:
                for group in self._optimisers[role].param_groups:
                    group["lr"] = self._rate(role) * self._share_of_rate(step)
                self._optimisers[role].step()
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        return found

    def _share_of_rate(self, step: int) -> float:
        share = min(1.0, (step + 1) / max(1, self.config.warmup))
        if self._cooling is not None:
            begin, end = self._cooling
            share *= min(1.0, max(0.0, (end - step) / max(1, end - begin)))
        return share

    def cool(self, first: int, last: int) -> None:
        self._cooling = first, last

    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        raise ScopeError(
            f"{self.kind} has no sheets; judge it with scope-play eval, and leave sheets out (--no-sheets)"
        )

    def state(self) -> dict[str, Tensor]:
        """What is trained, and its optimisers, by name; sharded where the networks are."""
        found: dict[str, Tensor] = {}
        for role, parameters in self._parameters.items():
            optimiser = self._optimisers[role]
            for name, parameter in parameters.items():
                kept = optimiser.state.get(parameter, {})
                found[f"{role}/{name}"] = parameter.detach()
                found[f"optimiser/{role}/{name}/step"] = kept.get("step", torch.zeros(()))
                for moment in ("exp_avg", "exp_avg_sq"):
                    found[f"optimiser/{role}/{name}/{moment}"] = kept.get(moment, torch.zeros_like(parameter))
        return found

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for role, parameters in self._parameters.items():
            weights, kept = part(tensors, role), part(tensors, f"optimiser/{role}")
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])
                moments = {
                    moment: kept[f"{name}/{moment}"].to(parameter).clone() for moment in ("exp_avg", "exp_avg_sq")
                }
                self._optimisers[role].state[parameter] = {"step": kept[f"{name}/step"].clone(), **moments}

    def values(self) -> dict[str, Any]:
        recipe = asdict(self.config)
        return {
            "kind": self.kind,
            "model": dict(self._described),
            "recipe": recipe | _plain(self.method),
            "seed": self._seed,
            "cooling": self._cooling,
        }


def _plain(method: Method) -> dict[str, Any]:
    """A method's settings that are numbers."""
    found = {name: value for name, value in vars(method).items() if isinstance(value, int | float)}
    guidance = getattr(method, "guidance", None)
    if guidance is not None:
        found |= {"text_guidance": guidance.text, "action_guidance": guidance.actions}
    return found
