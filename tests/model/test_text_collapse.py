"""A prompt's padding folded into one key changes nothing: offline, cached, fused, graphed, with guidance."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.kernels.dispatch import torch_kernels
from scope_play.kernels.text_attention import shorten
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV, join_prompts
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cuda_graph import GraphedDiT, Replay
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.stream_cases import GRID, Clip, lively, stream, tiny_config

TOKENS = 512
THROUGH_THE_NETWORK = 3e-6
"""The sum over 512 keys in float32 is itself 1.4e-6 away from the true one; the short sum is within 1e-7."""


@pytest.fixture(scope="module")
def network() -> DiT:
    made = lively(DiT(tiny_config(text_dim=10)))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "cross_attn" in name or "text_embedding" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return made


def prompt(length: int, batch: int = 1) -> Tensor:
    context = torch.randn(batch, TOKENS, 10, generator=torch.Generator().manual_seed(length))
    context[:, length:] = 0
    return context


def relative(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.mark.parametrize("length", [0, 1, 9, 60, 200])
@torch.no_grad()
def test_the_attention_itself(network: DiT, length: int) -> None:
    whole = network.text_keys(prompt(length, 2))[0]
    short = network.text_keys(*shorten(prompt(length, 2)))[0]
    assert short.keys.shape[2] < TOKENS
    q = torch.randn(2, 2, 18, 24, generator=torch.Generator().manual_seed(2))
    exact = F.scaled_dot_product_attention(q.double(), whole.keys.double(), whole.values.double())
    assert relative(F.scaled_dot_product_attention(q, short.keys, short.values, attn_mask=short.bias), exact) <= 1e-6


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_whole_pass(network: DiT, batch: int) -> None:
    clip, times = Clip(batch, 3), torch.full((batch, 1), 500.0)
    rows = {"buttons": clip.buttons, "sticks": clip.sticks}
    whole, short = network.text_keys(prompt(9, batch)), network.text_keys(*shorten(prompt(9, batch)))
    assert short[0].keys.shape[2] == 64
    want = network(clip.latents, times, text_cache=whole, **rows)
    assert relative(network(clip.latents, times, text_cache=short, **rows), want) <= THROUGH_THE_NETWORK
    dropped = [TextKV(kv.keys[:, :, :9], kv.values[:, :, :9]) for kv in whole]
    assert relative(network(clip.latents, times, text_cache=dropped, **rows), want) > 1e-2


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_two_prompts_of_unequal_length_in_one_batch(network: DiT, fused: bool) -> None:
    """As guidance lays them out: one branch after the other."""
    clip, config = Clip(2, 4), CacheConfig(3)
    form = FusedDiT(network, torch_kernels("a test")) if fused else PlainDiT(network)
    for lengths, keys in [((9, 100), 128), ((9, 512), 512), ((3, 9), 64)]:
        contexts = [prompt(length) for length in lengths]
        short = join_prompts([network.text_keys(*shorten(context)) for context in contexts])
        assert short[0].keys.shape[2] == keys
        want = stream(form, clip, config, text=network.text_keys(torch.cat(contexts)))
        assert relative(stream(form, clip, config, text=short), want) <= THROUGH_THE_NETWORK


@torch.no_grad()
def test_in_bfloat16_it_is_as_exact_as_bfloat16(network: DiT) -> None:
    narrow = DiT(network.config).to(torch.bfloat16)
    narrow.load_state_dict(network.state_dict())
    clip, times = Clip(1, 2), torch.full((1, 1), 500.0)
    rows = {"buttons": clip.buttons.bfloat16(), "sticks": clip.sticks.bfloat16()}
    context = prompt(9).bfloat16()
    exact = network(
        clip.latents.bfloat16().float(),
        times,
        context=context.float(),
        buttons=clip.buttons,
        sticks=rows["sticks"].float(),
    )
    whole = narrow(clip.latents.bfloat16(), times, context=context, **rows)
    short = narrow(clip.latents.bfloat16(), times, text_cache=narrow.text_keys(*shorten(context)), **rows)
    assert relative(short, exact) < 1.2 * relative(whole, exact)


@torch.no_grad()
def test_recordings_serve_the_next_prompt_too(network: DiT) -> None:
    """A recorded pass has fixed shapes: prompts of one bucket share it, and a longer one gets its own."""
    recorded: list[Replay] = []

    def record(function: Replay) -> Replay:
        recorded.append(function)
        return function

    form = FusedDiT(network, torch_kernels("a test"))
    config, first = StreamConfig(steps=2, window=2), torch.zeros(1, 8, 1, *GRID)
    plain, graphed = CachedStream(form, config, first), CachedStream(GraphedDiT(form, record), config, first)
    windows = ActionWindows(torch.zeros(1, 1, 16, 4), torch.zeros(1, 1, 16, 6))
    counts = []
    for length in (9, 9, 9, 9, 30, 100):  # the window is full after three chunks
        noise = torch.randn(1, 8, 1, *GRID, generator=torch.Generator().manual_seed(length))
        text = network.text_keys(*shorten(prompt(length)))
        made = []
        for running in (plain, graphed):
            running.set_text(text, None)
            made.append(running.denoise(noise, windows))
            running.commit()
        assert torch.equal(*made)
        counts.append(len(recorded))
    assert counts[3] == counts[4] < counts[5]
