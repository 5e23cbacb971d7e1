from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scope_play.bench import roofline
from scope_play.bench.costs import GPUS, Cost, Gpu
from scope_play.bench.roofline import Workload, chunk_costs, frames_per_second, pass_costs
from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.kernels.norm_silu_torch import norm_silu
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import NANO, SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.layers import StreamMemory
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT

SCOPE_WORK = Workload(tokens=390)


def total(costs: list[Cost], field: str) -> float:
    return sum(getattr(cost, field) for cost in costs)


class WeightReads(TorchDispatchMode):
    """Bytes of parameters that the operations inside read: each storage once, as much of it as was looked at."""

    def __init__(self, parameters: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.parameters = parameters
        self.read: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = (
            "view",
            "reshape",
            "slice",
            "transpose",
            "t.default",
            "unsqueeze",
            "split",
            "expand",
            "detach",
            "select",
        )
        if not any(name in str(func) for name in views):
            for arg in torch.utils._pytree.tree_leaves((args, kwargs)):
                if isinstance(arg, Tensor) and arg.untyped_storage()._cdata in self.parameters:
                    key = arg.untyped_storage()._cdata
                    self.read[key] = max(self.read.get(key, 0), arg.numel() * arg.element_size())
        return func(*args, **(kwargs or {}))


def count_on_meta(config: DiTConfig, work: Workload, latent_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """FLOPs and weight bytes of one pass, and of what is done once a chunk, on the real modules, without numbers."""
    with torch.device("meta"):
        network = DiT(config).to(torch.bfloat16).requires_grad_(False)
        cache_config = CacheConfig(window=work.context, chunk=work.chunk)
        cache = StreamCache(config, cache_config, batch=1, tokens=work.tokens, device="meta", dtype=torch.bfloat16)
        for memory in cache.memories():
            memory.filled = work.context
        latents = torch.empty(1, config.in_channels, work.chunk, *latent_size, dtype=torch.bfloat16)
        action = config.action
        assert action is not None
        rows = (1, work.chunk, action.window_rows)
        windows = ActionWindows(
            torch.empty(*rows, action.axes, dtype=torch.bfloat16),
            torch.empty(*rows, action.buttons, dtype=torch.bfloat16),
        )
        text = None
        if config.text_dim is not None:
            keys = torch.empty(1, config.heads, work.text_keys, config.head_dim, dtype=torch.bfloat16)
            text = [TextKV(keys, keys) for _ in range(config.layers)]
        streamed = PlainDiT(network)
        parameters = {p.untyped_storage()._cdata: p for p in network.parameters()}

        def counted(run: Any) -> tuple[float, float, Any]:
            with WeightReads(parameters) as reads, FlopCounterMode(display=False) as flops:
                result = run()
            return flops.get_total_flops(), sum(reads.read.values()), result

        timesteps = torch.empty(1, 1, dtype=torch.bfloat16)
        time_flops, time_bytes, time = counted(lambda: streamed.embed_time(timesteps, work.chunk))
        plan_flops, plan_bytes, plan = counted(lambda: streamed.plan_chunk(latents, cache, windows))
        # The first pass would make, block by block, what all passes of the chunk share.
        shared_flops, shared_bytes, _ = counted(lambda: [plan.condition(i, b) for i, b in enumerate(network.blocks)])
        flops, weights, _ = counted(lambda: streamed.step(latents, time, cache, plan, text_cache=text))
    once = time_flops + plan_flops + shared_flops, time_bytes + plan_bytes + shared_bytes
    return flops, weights, *once


@pytest.mark.parametrize(
    ("config", "work", "latent_size"),
    [
        (SCOPE_5B, SCOPE_WORK, (30, 52)),
        (SCOPE_5B, Workload(tokens=390, chunk=3, context=9, text_keys=80), (30, 52)),
        (NANO, Workload(tokens=60), (6, 10)),
        (NANO, Workload(tokens=4), (2, 2)),  # the buttons' results are fewer than their values
    ],
)
def test_counts_agree_with_the_real_modules(config: DiTConfig, work: Workload, latent_size: tuple[int, int]) -> None:
    flops, weights, once_flops, once_bytes = count_on_meta(config, work, latent_size)
    assert total(pass_costs(config, work), "flops") == pytest.approx(flops, rel=0.01)
    assert total(pass_costs(config, work), "weights") == pytest.approx(weights, rel=0.01)
    assert total(chunk_costs(config, work), "flops") == pytest.approx(once_flops, rel=0.03)
    assert total(chunk_costs(config, work), "weights") == pytest.approx(once_bytes, rel=0.03)


def test_scope_pass_has_the_published_size() -> None:
    """One latent frame through 30 blocks without history: 5.2 TFLOP; 14.4 GB of weights for it and its conditions."""
    alone = pass_costs(SCOPE_5B, Workload(tokens=390, context=0))
    assert total(alone, "flops") == pytest.approx(5.2e12, rel=0.03)
    weights = total(alone, "weights") + total(chunk_costs(SCOPE_5B, SCOPE_WORK), "weights")
    assert weights == pytest.approx(14.4e9, rel=0.03)
    # 0.29 GB of keys and values for each latent remembered.
    one, two = (total(pass_costs(SCOPE_5B, Workload(390, context=n)), "cache") for n in (1, 2))
    assert two - one == pytest.approx(0.29e9, rel=0.03)


def test_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    gpu = Gpu(tflops=1, terabytes=1, source="")
    assert Cost("a", flops=2e12, weights=1e12).seconds(gpu) == 2
    assert Cost("b", flops=2e12, weights=1e12, cache=1e12, activations=1e12).seconds(gpu) == 3
    assert Cost("c", flops=2e12, speedup=2).seconds(gpu) == 1
    assert frames_per_second(SCOPE_5B, SCOPE_WORK, GPUS["h200"], 4) == pytest.approx(102, rel=0.03)


def test_command_prints_without_a_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "roofline", "--gpu", "h200", "--json", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "pixel attention" in printed
    assert "h200" in printed
    result = json.loads((tmp_path / "roofline.json").read_text())
    assert result["fps"]["h200"] > 90
    assert result["machine"]["torch"] == torch.__version__
    assert main(["bench", "roofline", "--model", "nano", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in GPUS)


def test_nonsense_is_refused() -> None:
    parser = argparse.ArgumentParser()
    roofline.configure(parser)
    with pytest.raises(ScopeError, match="--steps is 0"):
        roofline.run(parser.parse_args(["--steps", "0"]))


def test_the_decoders_layers_add_up_to_what_a_latent_really_takes() -> None:
    from scope_play.bench.decoder_roofline import decoder_costs

    config = VAEConfig(dim=8, dec_dim=16)
    costs = decoder_costs(config, (4, 6))
    stream = WanVAE(VAENetwork(config)).decoder()
    stream.memory = StreamMemory(norm_silu, pairs=False)  # as on a GPU
    stream.push(torch.randn(1, config.z_dim, 1, 4, 6))
    with FlopCounterMode(display=False) as counter:
        stream.push(torch.randn(1, config.z_dim, 1, 4, 6))
    # torch's own counter leaves out the attention that a processor has in one piece.
    attention = next(cost.flops for cost in costs if cost.name == "middle.1")
    assert total(costs, "flops") - counter.get_total_flops() in (0, attention)
    weights = sum(p.numel() for n, p in VAENetwork(config).named_parameters() if n.startswith("decoder") and p.ndim > 3)
    read = total(costs, "weights") / 2
    # A resampler reads sixteen taps of its nine, as sums; attention's second factor is no weight.
    assert weights <= read < 1.5 * weights
    (head,) = (cost for cost in costs if cost.name == "head.2")
    assert head.flops == 2 * 27 * 16 * 12 * 4 * 32 * 48
