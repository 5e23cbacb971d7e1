"""The floor of the full decoder, layer by layer: what arithmetic and bandwidth ask for one latent, four frames.

Counted by decoding two latents on the meta device, of which the second is like all that follow. Products and
convolutions count, with what they read and write once; norms, activations, padding and layout copies do not, since
they can be done on the way, and what they take today is the distance to this floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from scope_play.bench.costs import Cost, Gpu
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.weights.checkpoint import build_on_meta

if TYPE_CHECKING:
    from rich.table import Table

WHOLE = "Decoder."


class _Layers(TorchDispatchMode):
    """Operations and bytes of products and convolutions, by the innermost module that asks for them."""

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()
        self.tracker = tracker
        self.found: dict[str, list[float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            name = max(self.tracker.parents, key=len)
            name = name.removeprefix(WHOLE) if name.startswith(WHOLE) else "conv2, before it"
            # A convolution's input and kernel, a product's two factors: the first two tensors, but for a bias before.
            tensors = [arg for arg in args if isinstance(arg, Tensor)]
            x, weight = tensors[1:3] if func.overloadpacket is torch.ops.aten.addmm else tensors[:2]
            sums = self.found.setdefault(name, [0.0, 0.0, 0.0])
            sums[0] += count(*args, **(kwargs or {}), out_val=out)
            sums[1] += weight.nbytes
            sums[2] += x.nbytes + (out[0] if isinstance(out, tuple) else out).nbytes
        return out


def decoder_costs(config: VAEConfig | None = None, latent: tuple[int, int] = (30, 52)) -> list[Cost]:
    """Of one latent (height, width) after the first, in bfloat16, layer by layer in the order of the network."""
    config = config or VAEConfig()
    network = build_on_meta(lambda: VAENetwork(config)).to(torch.bfloat16)
    stream = WanVAE(network).decoder()
    z = torch.empty(1, config.z_dim, 1, *latent, dtype=torch.bfloat16, device="meta")
    stream.push(z)
    with ModuleTracker() as tracker, _Layers(tracker) as layers:
        stream.push(z)
    return [Cost(name, sums[0], sums[1], activations=sums[2]) for name, sums in layers.found.items()]


def decoder_table(costs: list[Cost], name: str, gpu: Gpu) -> Table:
    """Every layer, and their sum."""
    from rich.table import Table

    table = Table("layer", "GFLOP", "MB", "ms", "bound by", title=f"one latent of the full decoder on {name}")
    for cost in costs:
        bound = "arithmetic" if cost.arithmetic(gpu) >= cost.traffic(gpu) else "memory"
        milliseconds = f"{1e3 * cost.seconds(gpu):.3f}"
        table.add_row(cost.name, f"{cost.flops / 1e9:.1f}", f"{cost.bytes / 1e6:.1f}", milliseconds, bound)
    table.add_section()
    flops, moved = sum(cost.flops for cost in costs), sum(cost.bytes for cost in costs)
    seconds = sum(cost.seconds(gpu) for cost in costs)
    table.add_row("one latent", f"{flops / 1e9:.1f}", f"{moved / 1e6:.1f}", f"{1e3 * seconds:.3f}", "")
    return table
