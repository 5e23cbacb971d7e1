"""Streamed blocks compute what resident blocks compute."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.offload import HostBlocks, StreamedBlocks, stream_blocks
from scope_play.sampling.clip import Conditions, GuidedVelocity, Sampling

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
    expected = network.to(device)(**inputs)
    stream_blocks(network.cpu(), device)
    for _ in range(3):
        torch.testing.assert_close(network(**inputs), expected, rtol=0, atol=0 if device == "cpu" else 1e-5)
    cached = network(**{**inputs, "context": None}, text_cache=network.text_keys(inputs["context"]))
    torch.testing.assert_close(cached, expected, rtol=0, atol=0 if device == "cpu" else 1e-5)


def test_only_two_blocks_are_ever_on_the_device() -> None:
    network = DiT(CONFIG)
    stream_blocks(network, "cpu")
    modules = list(network.blocks)
    assert len({id(module) for module in modules}) == 2
    assert len(modules) == 5


def test_streamed_blocks_are_not_moved_by_accident() -> None:
    network = DiT(CONFIG)
    stream_blocks(network, "cpu")
    with pytest.raises(ScopeError, match="stay where they are"):
        network.to(torch.bfloat16)


class Counting:
    """A store that notes what is read; block 2 cannot be read as long as `broken`."""

    def __init__(self, blocks: torch.nn.ModuleList, waits: bool) -> None:
        self.store, self.layers, self.waits = HostBlocks(blocks, torch.device("cpu")), len(blocks), waits
        self.read_blocks: list[int] = []
        self.broken = False

    def read(self, index: int) -> Iterator[tuple[str, torch.Tensor]]:
        self.read_blocks.append(index)
        if self.broken and index == 2:
            raise OSError("the disk is gone")
        yield from self.store.read(index)


def counted(waits: bool) -> tuple[DiT, Counting]:
    torch.manual_seed(0)
    network = DiT(CONFIG).requires_grad_(False)
    store = Counting(cast(torch.nn.ModuleList, network.blocks), waits)
    first = network.blocks[0]
    network.blocks = StreamedBlocks(store, lambda: copy.deepcopy(first), torch.device("cpu"))
    return network, store


@pytest.mark.parametrize("waits", [False, True])
@torch.no_grad()
def test_a_clip_reads_each_block_once_a_pass_and_its_actions_once(waits: bool) -> None:
    network, store = counted(waits)
    conditions = Conditions(torch.randn(1, 3, 8), torch.randn(1, 3, 8), torch.ones(1, 9, 6), torch.rand(1, 9, 4))
    velocity = GuidedVelocity(network, conditions, Sampling(guidance=5.0, action_guidance=2.0), image_given=True)
    assert store.read_blocks == list(range(5))  # both prompts in one round
    store.read_blocks.clear()
    made: list[object] = []
    for slot in network.blocks._slots:  # type: ignore[union-attr]
        embed = slot.module.action_attn.keyboard_embed  # type: ignore[union-attr]
        embed.register_forward_pre_hook(lambda *_: made.append(None))  # type: ignore[union-attr]
    steps = 4
    for step in range(steps):
        velocity(torch.randn(1, 4, 3, 4, 4), torch.tensor(900.0 - step))
    assert store.read_blocks == list(range(5)) * 3 * steps  # three branches
    assert len(made) == 5


@pytest.mark.parametrize("waits", [False, True])
@torch.no_grad()
def test_a_failure_in_the_middle_leaves_the_next_pass_whole(waits: bool) -> None:
    network, store = counted(waits)
    inputs = {"context": torch.randn(1, 3, 8), "buttons": torch.ones(1, 9, 6), "sticks": torch.rand(1, 9, 4)}
    latents = torch.randn(1, 4, 3, 4, 4)
    expected = network(latents, torch.tensor([[500.0]]), **inputs)
    store.broken = True
    with pytest.raises(OSError, match="the disk is gone"):
        network(latents, torch.tensor([[500.0]]), **inputs)
    store.broken = False
    for _block in network.blocks:
        break  # whoever uses the blocks stops in the middle
    assert torch.equal(network(latents, torch.tensor([[500.0]]), **inputs), expected)
