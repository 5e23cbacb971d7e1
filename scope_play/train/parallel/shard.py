"""A network over several GPUs by torch's own means: FSDP2, activation checkpoints, LoRA by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import checkpoint

from scope_play.errors import ScopeError
from scope_play.model.dit.dit import DiT
from scope_play.train.parallel.ranks import Ranks


@dataclass(frozen=True)
class LoraConfig:
    """`rank` of the changes and their scale, `alpha` / `rank`."""

    rank: int = 128
    alpha: int = 128


def add_lora(network: DiT, config: LoraConfig, seed: int = 0) -> DiT:
    """Freezes the network and adds low-rank changes, which begin at nothing, to its blocks' products."""
    try:
        import peft
    except ImportError as error:
        raise ScopeError("LoRA needs the package peft; run: pip install 'scope-play[train]'") from error
    network.requires_grad_(False)
    targets = r"blocks\.\d+\.((self_attn|cross_attn)\.(q|k|v|o)|ffn\.(0|2))"
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, network)
    return network


def remember_less(network: DiT) -> DiT:
    """Each block keeps its input alone and is computed again on the way back."""
    for block in network.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return network


def shard(network: DiT, ranks: Ranks, device: torch.device, bf16: bool) -> DiT:
    """Spreads parameters, gradients and optimiser over all ranks, block by block; computes in bfloat16 from float32.

    With one rank the network stays as it is.
    """
    network = network.to(device)
    if ranks.count == 1:
        return network
    mesh = init_device_mesh(device.type, (ranks.count,))
    # What goes in stays as it is: noise levels and rotations are float32, and autocast casts what is multiplied.
    dtypes = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32} if bf16 else {}
    policy = MixedPrecisionPolicy(**dtypes, cast_forward_inputs=False)
    for block in network.blocks:
        for part, method in (("cross_attn", "keys_values"), ("action_attn", "condition")):
            module = getattr(block, part)
            if module is not None:  # asked before its block's turn, for what all passes share
                fully_shard(module, mesh=mesh, mp_policy=policy)
                register_fsdp_forward_method(module, method)
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)
    # The first forward decides which module is the root of all; a rollout would begin with one of the parts.
    register_fsdp_forward_method(network, "grid")
    network.grid(torch.empty(0, *network.config.patch[1:], device=device))
    cast(FSDPModule, network).reshard()
    return network


@contextmanager
def gathered(network: nn.Module) -> Iterator[nn.Module]:
    """The network whole on every rank, for passes that go around its `forward`, such as rollouts."""
    parts = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for module in parts:
        module.unshard()
    try:
        yield network
    finally:
        for module in parts:
            module.reshard()
