"""The kernels' signatures fit the model: with its own weights and caches the twins give what its attentions give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from scope_play.kernels import Kernels, select
from scope_play.kernels.attention import sdpa
from scope_play.kernels.torch_primitives import rotate
from scope_play.model.dit.action import ActionCondition, ActionWindows, TimePlan
from scope_play.model.dit.block import Block, PassPlan
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.layers import Rotation, pixel_rotation, split_heads, video_rotation
from scope_play.runtime.kv_cache import CacheConfig, KVMemory

CONFIG = DiTConfig(dim=64, layers=1, heads=2, ffn_dim=64, in_channels=4, out_channels=4, text_dim=None, freq_dim=16)
GRID = (2, 3)
CHUNK, WINDOW = 3, 4


class World(NamedTuple):
    block: Block
    ops: Kernels
    x: Tensor
    pixels: Rotation
    video: Rotation


@pytest.fixture
def world() -> Iterator[World]:
    torch.manual_seed(0)
    block = Block(CONFIG).eval()
    positions = torch.arange(5, 7)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.2)
        yield World(
            block,
            select("cpu", torch.float32, heads=CONFIG.heads, head_dim=CONFIG.head_dim, latents=CHUNK),
            torch.randn(1, 2, 6, 64),
            pixel_rotation(positions, CONFIG.head_dim),
            video_rotation(positions, *GRID, CONFIG.head_dim),
        )


def memory(tokens: int, filled: int) -> KVMemory:
    made = KVMemory(
        CacheConfig(WINDOW, CHUNK), (1, tokens, CONFIG.heads, CONFIG.head_dim), torch.device("cpu"), torch.float32
    )
    generator = torch.Generator().manual_seed(1)
    for tensor in (made.keys, made.values):
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
        tensor[:, CHUNK + filled :] = torch.nan
    made.filled = filled
    return made


def slots(made: KVMemory, latents: int) -> tuple[Tensor, Tensor]:
    start = CHUNK - latents
    return made.keys[:, start:], made.values[:, start:]


@pytest.mark.parametrize("filled", [0, 1, 4])
def test_pixel_attention(world: World, filled: int) -> None:
    assert world.block.action_attn is not None
    attention, theirs, ours = world.block.action_attn.mouse_attn, memory(6, filled), memory(6, filled)
    want = attention(world.x, TimePlan(world.pixels, None), theirs)
    q, k, v = (projection(world.x) for projection in (attention.q, attention.k, attention.v))
    weights = attention.norm_q.weight, attention.norm_k.weight
    got = world.ops.pixel_attention(q, k, v, *weights, world.pixels, *slots(ours, 2), 2 + filled)
    torch.testing.assert_close(attention.o(got), want, atol=1e-5, rtol=1e-5)
    used = slice(CHUNK - 2, CHUNK + filled)
    torch.testing.assert_close(ours.keys[:, used], theirs.keys[:, used], atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.values[:, used], theirs.values[:, used])


@pytest.mark.parametrize("filled", [0, 3])
def test_button_attention(world: World, filled: int) -> None:
    module = world.block.action_attn
    assert module is not None
    k, v = torch.randn(1, 2, 1, 64), torch.randn(1, 2, 1, 64)
    theirs, ours = memory(1, filled), memory(1, filled)
    keys = rotate(split_heads(module.key_attn_k_norm(k), CONFIG.heads), world.pixels)
    ours.append(keys, split_heads(v, CONFIG.heads))
    condition = ActionCondition(None, keys, split_heads(v, CONFIG.heads), None)
    want = module(world.x, condition, TimePlan(world.pixels, None), None, theirs)
    q = module.keyboard_q_proj(world.x)
    weight = module.key_attn_q_norm.weight
    got = world.ops.button_attention(q, weight, world.pixels, *slots(ours, 2), 2 + filled)
    torch.testing.assert_close(world.x + module.keyboard_o_proj(got), want, atol=1e-5, rtol=1e-5)


def test_norm_rope_before_video_attention(world: World) -> None:
    attention, theirs, ours = world.block.self_attn, memory(6, 2), memory(6, 2)
    plan = PassPlan(world.video, None, TimePlan(world.pixels, None), ActionWindows(None, None), [])
    want = attention(world.x, plan, theirs)
    q, k, v = (projection(world.x) for projection in (attention.q, attention.k, attention.v))
    weights = attention.norm_q.weight, attention.norm_k.weight
    queries = world.ops.norm_rope(q, k, v, *weights, world.video, *slots(ours, 2))
    keys, values = (cache[:, :4].flatten(1, 2) for cache in slots(ours, 2))
    got = attention.o(sdpa(queries.flatten(1, 2), keys, values).flatten(2)).view_as(want)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
