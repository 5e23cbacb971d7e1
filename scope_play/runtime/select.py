"""Which form of a network streams: fused, compiled for a few rows on a CPU, or as CUDA graphs."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.kernels import select
from scope_play.kernels.attention import select_attention
from scope_play.kernels.dispatch import VARIABLE
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cuda_graph import CudaRecorder, GraphedDiT, Recorder
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.plain_dit import PlainDiT


def network_for_streaming(network: DiT, *, latents: int) -> FusedDiT:
    """The form that streams chunks of up to `latents` on the device where `network` is: once per world.

    With the Triton kernels on a GPU, and on a CPU with their twins, or, for a world of few rows, compiled.

    Raises ScopeError when SCOPE_PLAY_KERNELS=triton and the kernels cannot serve.
    """
    weight = next(network.parameters())
    sizes = {"heads": network.config.heads, "head_dim": network.config.head_dim}
    kernels = select(weight.device, weight.dtype, latents=latents, **sizes)
    if os.environ.get(VARIABLE) != "torch" and kernels.backend == "torch" and compiles(network):
        from scope_play.runtime.cpu_dit import CompiledDiT  # numba takes a quarter of a second to import

        return CompiledDiT(network, kernels)
    return FusedDiT(network, kernels, select_attention(weight.device, weight.dtype))


def refuse_kernels(mode: str) -> None:
    """Raises ScopeError when SCOPE_PLAY_KERNELS=triton, in a streaming mode that runs the DiT itself."""
    if os.environ.get(VARIABLE) == "triton":
        raise ScopeError(f"{VARIABLE}=triton, but the kernels do not serve streaming mode {mode!r}; unset it")


def recorder_on(device: torch.device, priority: int = 0) -> Recorder | None:
    """What records work on `device`, all from one pool of memory; None where nothing is recorded."""
    return CudaRecorder(device, priority) if device.type == "cuda" else None


def network_for_session(network: FusedDiT | PlainDiT) -> FusedDiT | PlainDiT:
    """What one stream calls: on a GPU a fused form's own recordings, since those hold the addresses of its cache."""
    if not isinstance(network, FusedDiT):
        return network
    record = recorder_on(network.modulation.device)
    return network if record is None else GraphedDiT(network, record)


def compiles(network: DiT) -> bool:
    """Whether a network has a compiled form: one with actions and without text, in float32 on a CPU, whose linears are
    no less exact in bfloat16, as they were stored."""
    config, weight = network.config, next(network.parameters())
    if config.text_dim is not None or config.action is None or weight.device.type != "cpu":
        return False
    rows = config.action.window_rows * (config.action.axes + config.action.buttons)
    if config.dim % 4 or config.ffn_dim % 4 or rows % 4:
        return False
    acting = [] if network.action_modulation is None else list(network.action_modulation)
    linears = [part for part in (*network.blocks.modules(), *acting) if hasattr(part, "in_features")]
    return all(type(part) is nn.Linear and _is_bfloat16(part.weight) for part in linears)


def _is_bfloat16(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and torch.equal(weight, weight.to(torch.bfloat16).float())
