"""Which form of a network streams: the DiT itself, its fused form, or that as CUDA graphs."""

from __future__ import annotations

import os

from scope_play.errors import ScopeError
from scope_play.kernels import select
from scope_play.kernels.attention import select_attention
from scope_play.kernels.dispatch import VARIABLE
from scope_play.model.dit import DiT
from scope_play.model.fused import FusedDiT
from scope_play.model.graph import CudaRecorder, GraphedDiT
from scope_play.sampling.streaming import StreamConfig


def network_for_streaming(network: DiT, config: StreamConfig) -> DiT | FusedDiT:
    """The form for `config` on the device where `network` is: once per world, before its sessions.

    The fused form serves wherever the cache does: with the Triton kernels on a GPU, and with their twins on a CPU,
    where it is no slower than the DiT (`scope-play bench stream --model nano` prints both in one run). Streaming mode
    `window` runs the DiT, whose passes have no cache.

    Raises ScopeError when SCOPE_PLAY_KERNELS=triton and the kernels cannot serve.
    """
    weight = next(network.parameters())
    sizes = {"heads": network.config.heads, "head_dim": network.config.head_dim}
    kernels = select(weight.device, weight.dtype, latents=config.room(network.config.causal), **sizes)
    if config.mode != "cached":
        if os.environ.get(VARIABLE) == "triton":
            raise ScopeError(f"{VARIABLE}=triton, but the kernels do not serve streaming mode 'window'; unset it")
        return network
    return FusedDiT(network, kernels, select_attention(weight.device, weight.dtype))


def network_for_session(network: DiT | FusedDiT) -> DiT | FusedDiT | GraphedDiT:
    """What one stream calls: on a GPU its own recordings, since those hold the addresses of its cache."""
    if isinstance(network, FusedDiT) and network.modulation.device.type == "cuda":
        return GraphedDiT(network, CudaRecorder())
    return network
