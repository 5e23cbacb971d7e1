"""What a training takes, before anything is loaded: bytes on each GPU, operations, hours.

Activations are found by doing a step of the method on the meta device with networks of one and two blocks, and going on
in a straight line to all of them; where blocks keep their input alone, one is whole. They are counted in float32, which
is more than bfloat16 arithmetic keeps. The rest is counting:

    weights        4 bytes a number, spread over the GPUs
    in bfloat16    2 bytes a number: of the whole network where one GPU has it, of two blocks otherwise
    gradients      4 bytes a number that is trained, spread over the GPUs
    AdamW          8 bytes a number that is trained, spread over the GPUs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scope_play.errors import ScopeError
from scope_play.loading.resolve import Family, resolve
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.tokenizer import TOKENS
from scope_play.runtime.live_bytes import peak_live_bytes
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.dmd import DMD
from scope_play.train.methods.passes import velocity
from scope_play.train.parallel.shard import add_lora
from scope_play.train.rollout import Played
from scope_play.train.tune.recipe import DMDSettings, Recipe, read_recipe
from scope_play.train.tune.start import open_start
from scope_play.weights.checkpoint import build_on_meta

GIB = 2**30
STRIDE = 16  # pixels of a latent's side, of the Wan2.2 autoencoder
USED = 0.4
"""Share of a card's arithmetic that training reaches: what well-tuned runs of such transformers report."""
PEAK = 989e12
"""bfloat16 operations a second of an H100."""


@dataclass(frozen=True)
class Plan:
    """Bytes on each GPU by what they are for, and what one step takes. numbers: of the whole network."""

    parts: dict[str, float]
    numbers: int
    trained: int
    operations: float
    checkpoints: bool

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def plan(config: DiTConfig, recipe: Recipe, gpus: int, latent: tuple[int, int], *, checkpoints: bool) -> Plan:
    """For latents of `latent` (height, width). `operations` are of one step on all GPUs, forward and back."""
    share = recipe.trainer.batch // gpus
    if share < 1 or recipe.trainer.batch % (gpus * recipe.trainer.micro_batch):
        raise ScopeError(f"a batch of {recipe.trainer.batch} does not divide among {gpus} GPUs; set trainer.batch")
    method = recipe.settings.method(_no_text(config))
    networks = {role: _network(config, recipe, learns) for role, learns in method.roles.items()}
    numbers = {role: sum(p.numel() for p in net.parameters()) for role, net in networks.items()}
    trained = {
        role: sum(p.numel() for p in net.parameters() if p.requires_grad) if method.roles[role] else 0
        for role, net in networks.items()
    }
    block = sum(p.numel() for p in networks["student"].blocks[0].parameters())
    (one, kept), (two, _) = (_activations(replace(config, layers=n), recipe, latent) for n in (1, 2))
    more = kept if checkpoints else two - one
    whole = numbers["student"] if gpus == 1 and not checkpoints else 2 * block
    parts = {
        "weights": 4 * sum(numbers.values()) / gpus,
        "in bfloat16": 2 * whole * len(networks),
        "gradients": 4 * sum(trained.values()) / gpus,
        "optimiser": 8 * sum(trained.values()) / gpus,
        "activations": one + more * (config.layers - 1),
    }
    first, second = (_operations(replace(config, layers=n), recipe, latent) for n in (1, 2))
    passes = first + (second - first) * (config.layers - 1)
    again = 4 / 3 if checkpoints else 1  # a way back costs two ways there, and a block is computed once more
    operations = again * passes * recipe.trainer.batch / recipe.trainer.micro_batch
    return Plan(parts, numbers["student"], sum(trained.values()), operations, checkpoints)


def _network(config: DiTConfig, recipe: Recipe, learns: bool) -> DiT:
    network = build_on_meta(lambda: DiT(config))
    network.requires_grad_(learns)
    if learns and recipe.lora is not None:
        with torch.device("meta"):
            add_lora(network, recipe.lora)
    return network


def _batch(config: DiTConfig, recipe: Recipe, latent: tuple[int, int]) -> ClipBatch:
    count, latents = recipe.trainer.micro_batch, recipe.trainer.latents
    rows = 4 * (latents - 1)
    context = None if config.text_dim is None else _on_meta(count, TOKENS, config.text_dim)
    clips = _on_meta(count, config.in_channels, latents, *latent)
    return ClipBatch(clips, _on_meta(count, rows, 6), _on_meta(count, rows, 4), context)


def _no_text(config: DiTConfig) -> Tensor | None:
    return None if config.text_dim is None else _on_meta(1, TOKENS, config.text_dim)


def _on_meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@dataclass(frozen=True)
class _Steps:
    """A method on the meta device: its networks, and each kind of step that it makes with how often it does."""

    networks: dict[str, DiT]
    kinds: Sequence[tuple[Callable[[], None], float]]


def _steps(config: DiTConfig, recipe: Recipe, latent: tuple[int, int]) -> _Steps:
    method = recipe.settings.method(_no_text(config))
    if isinstance(method, DMD):
        method = replace(method, play=_not_played)
    networks = {role: _network(config, recipe, learns) for role, learns in method.roles.items()}
    batch = _batch(config, recipe, latent)
    cycle = getattr(method, "critic_steps", 0) + 1

    def make(step: int) -> None:
        losses = method.losses(networks, batch, step, torch.Generator())
        for loss in losses.by_role.values():
            loss.backward()

    for network in networks.values():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
    kinds = [(partial(make, cycle - 1), 1 / cycle)]
    if cycle > 1:
        kinds.append((partial(make, 0), 1 - 1 / cycle))
    return _Steps(networks, kinds)


def _activations(config: DiTConfig, recipe: Recipe, latent: tuple[int, int]) -> tuple[int, int]:
    """What a micro-batch holds at most, and the input of a block that learns."""
    steps = _steps(config, recipe, latent)
    kept = [t for net in steps.networks.values() for p in net.parameters() for t in (p, p.grad) if t is not None]
    inputs = [0]

    def note(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            inputs.append(given[0].nbytes)

    for network in steps.networks.values():
        network.blocks[0].register_forward_pre_hook(note)
    return max(peak_live_bytes(kept, make) for make, _ in steps.kinds), max(inputs)


def _operations(config: DiTConfig, recipe: Recipe, latent: tuple[int, int]) -> float:
    steps = _steps(config, recipe, latent)
    total = sum(often * _counted(make) for make, often in steps.kinds)
    if isinstance(recipe.settings, DMDSettings):
        # Every latent goes through its steps, half of them on average if rollouts end anywhere, and is then remembered.
        few = recipe.settings.steps
        passes = 1 + ((1 + few) / 2 if recipe.settings.ends_anywhere else few)
        batch = _batch(config, recipe, latent)
        sigma = _on_meta(len(batch), batch.latents.shape[2])
        with torch.no_grad():
            total += passes * _counted(lambda: velocity(steps.networks["student"], batch.latents, sigma, batch))
    return total


def _counted(make: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        make()
    return counter.get_total_flops()


def _not_played(network: nn.Module, batch: ClipBatch, **how: object) -> Played:
    """Instead of a rollout, which is many small passes and, without gradients, never the most that a step holds."""
    return Played(batch.latents, batch.latents[:, :, 1:])


def plan_text(
    model: str, kind: str, gpus: int, memory: float, file: Path | None, words: Sequence[str], steps: int,
    size: tuple[int, int],
) -> str:  # fmt: skip
    """The plan of the lighter of both ways that fits, and what to change where none does. `memory` in GB."""
    recipe = read_recipe(kind, file, words)
    config = _config(model)
    latent = (size[0] // STRIDE, size[1] // STRIDE)
    found = plan(config, recipe, gpus, latent, checkpoints=False)
    if found.total > memory * 1e9:
        found = plan(config, recipe, gpus, latent, checkpoints=True)
    hours = steps * found.operations / (gpus * PEAK * USED) / 3600
    how = f"LoRA of rank {recipe.lora.rank}" if recipe.lora else "every weight"
    trainer = recipe.trainer
    lines = [
        f"{kind}, {how}: {found.trained / 1e6:,.0f} of {found.numbers / 1e9:.2f} billion numbers trained; "
        f"batch {trainer.batch} on {gpus} GPUs, {trainer.latents} latents of {latent[0]}x{latent[1]}",
        *(f"  {name:<12} {size / GIB:7.1f} GiB" for name, size in found.parts.items()),
        f"  {'together':<12} {found.total / GIB:7.1f} GiB of {memory * 1e9 / GIB:.1f}"
        + (", with --checkpoints" if found.checkpoints else ""),
        f"  {found.operations / 1e15:.1f} thousand million million operations a step; {steps} steps take {hours:.1f} "
        f"hours of H100s at {USED:.0%} of their arithmetic",
    ]
    if found.total > memory * 1e9:
        lines.append(_advice(recipe, gpus))
    return "\n".join(lines)


def _advice(recipe: Recipe, gpus: int) -> str:
    if recipe.lora is None:
        return "does not fit: train changes of low rank (--set lora.rank=64), or use more GPUs"
    if recipe.trainer.micro_batch > 1:
        return "does not fit: --set trainer.micro_batch=1"
    return f"does not fit: use more than {gpus} GPUs, or --set trainer.latents={max(2, recipe.trainer.latents // 2)}"


def _config(model: str) -> DiTConfig:
    if model == "scope":
        return SCOPE_5B
    if resolve(model).family is Family.UNTRAINED:
        raise ScopeError(f"{model} has no weights to train; give scope or a folder")
    start = open_start(model)
    return start.scope.dit_config if start.scope is not None else start.native_config().world
