"""Streamed blocks compute what resident blocks compute."""

from __future__ import annotations

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.offload import stream_blocks

CONFIG = DiTConfig(dim=48, layers=5, heads=2, ffn_dim=64, in_channels=4, out_channels=4, text_dim=8, freq_dim=16)
needs_gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layers", [1, 2, 5])
@torch.no_grad()
def test_streamed_blocks_give_the_same_numbers(layers: int, device: str) -> None:
    torch.manual_seed(0)
    network = DiT(DiTConfig(**{**CONFIG.__dict__, "layers": layers})).requires_grad_(False)
    inputs = {
        "latents": torch.randn(1, 4, 3, 4, 4),
        "timesteps": torch.tensor([[500.0]]),
        "context": torch.randn(1, 3, 8),
        "buttons": torch.ones(1, 9, 6),
        "sticks": torch.rand(1, 9, 4),
    }
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    names = list(network.state_dict())
    expected = network.to(device)(**inputs)
    stream_blocks(network.cpu(), device)
    assert list(network.state_dict()) == names
    for _ in range(3):
        torch.testing.assert_close(network(**inputs), expected, rtol=0, atol=0 if device == "cpu" else 1e-5)
    cached = network(**{**inputs, "context": None}, text_cache=network.text_keys(inputs["context"]))
    torch.testing.assert_close(cached, expected, rtol=0, atol=0 if device == "cpu" else 1e-5)


def test_only_two_blocks_are_ever_on_the_device() -> None:
    network = DiT(CONFIG)
    stream_blocks(network, "cpu")
    modules = list(network.blocks)
    assert len({id(module) for module in modules}) == 2
    assert all(a is not b for a, b in zip(modules, network.blocks.children(), strict=True))


def test_streamed_blocks_are_not_moved_by_accident() -> None:
    network = DiT(CONFIG)
    stream_blocks(network, "cpu")
    with pytest.raises(ScopeError, match="stay on the host"):
        network.to(torch.bfloat16)
