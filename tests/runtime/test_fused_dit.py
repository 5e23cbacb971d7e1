"""The fused step gives what the plain one gives, whatever the chunk, the cache and the conditions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import torch_kernels
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.dit import DiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.runtime.quantize import quantise_blocks
from tests.helpers.stream_cases import GRID, LIMIT, TIMESTEP, Clip, advance, lively, stream, tiny_config

TWINS = torch_kernels("a test")
FROM_PREVIOUS = {"prediction": "clean", "from_previous": True}


def fused(network: DiT) -> FusedDiT:
    return FusedDiT(network, TWINS)


def prompt(network: DiT, batch: int) -> list | None:
    if network.config.text_dim is None:
        return None
    context = torch.randn(batch, 7, network.config.text_dim, generator=torch.Generator().manual_seed(5))
    return network.text_keys(context)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    chunk=st.integers(1, 3),
    window=st.integers(1, 8),
    batch=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2, 3]),
    from_previous=st.booleans(),
    with_text=st.booleans(),
    with_keep=st.booleans(),
)
def test_equals_the_plain_step(
    chunk: int, window: int, batch: int, heads: int, from_previous: bool, with_text: bool, with_keep: bool
) -> None:
    changes = FROM_PREVIOUS if from_previous else {}
    network = lively(DiT(tiny_config(heads=heads, text_dim=10 if with_text else None, **changes)))
    clip, config = Clip(batch, 1 + 6 // chunk * chunk), CacheConfig(window, chunk)
    keep = torch.arange(batch) % 2 if with_keep else None
    with torch.no_grad():
        text = prompt(network, batch)
        plain = stream(PlainDiT(network), clip, config, text=text, keep=keep)
        ours = stream(fused(network), clip, config, text=text, keep=keep)
        poisoned = stream(fused(network), clip, config, poison=float("nan"), text=text, keep=keep)
    assert plain.std() > 0.1
    assert (plain - ours).abs().max() <= LIMIT
    assert torch.equal(ours, poisoned)


def one_chunk(network: DiT, filled: int = 3) -> tuple[FusedDiT, StreamCache, Clip, ActionWindows]:
    """A fused network with a few latents behind it, and the windows of its next chunk."""
    made, clip = fused(network), Clip(1, 1)
    cache = StreamCache(network.config, CacheConfig(4, 1), batch=1, tokens=GRID[0] * GRID[1])
    windows = ActionWindows(clip.sticks[:, None].expand(1, 1, 4, 4).repeat(1, 1, 4, 1), torch.ones(1, 1, 16, 6))
    for _ in range(filled):
        advance(made, clip.latents, TIMESTEP, cache, windows, prompt(network, 1))
        cache.commit()
    return made, cache, clip, windows


@pytest.mark.parametrize("absent", ["sticks", "buttons"])
def test_absent_actions_are_the_identity(absent: str) -> None:
    network = lively(DiT(tiny_config()))
    with torch.no_grad():
        made, cache, clip, windows = one_chunk(network)
        windows = windows._replace(**{absent: None})
        ours = advance(made, clip.latents, TIMESTEP, cache, windows)
        plain = advance(PlainDiT(network), clip.latents, TIMESTEP, cache, windows)
    assert (plain - ours).abs().max() <= LIMIT


def test_weights_are_held_once_and_the_network_still_works() -> None:
    network = lively(DiT(tiny_config()))
    with torch.no_grad():
        before = stream(PlainDiT(network), Clip(1, 4), CacheConfig(4))
        made = fused(network)
        assert (before - stream(PlainDiT(network), Clip(1, 4), CacheConfig(4))).abs().max() <= LIMIT
    joined, source = made.blocks[0].self_attn.qkv.weight, network.blocks[0].self_attn
    for part in (source.q, source.k, source.v):
        assert part.weight.untyped_storage().data_ptr() == joined.untyped_storage().data_ptr()


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantised_blocks_are_fused_too(precision: str) -> None:
    network, clip = lively(DiT(tiny_config())), Clip(1, 6)
    with torch.no_grad():
        exact = stream(PlainDiT(network), clip, CacheConfig(4))
        assert quantise_blocks(network, precision) > 0
        plain = stream(PlainDiT(network), clip, CacheConfig(4))
        ours = stream(fused(network), clip, CacheConfig(4))
    error, rounding = (plain - ours).abs(), (plain - exact).abs()
    if precision == "fp8":  # activations are rounded too, and a difference in the last bit may turn one of them over
        assert error.median() <= LIMIT
        assert error.mean() <= 0.1 * rounding.mean()
    else:
        assert error.max() <= LIMIT
    assert rounding.max() > 100 * LIMIT


def test_a_missing_prompt_is_named() -> None:
    network = lively(DiT(tiny_config(text_dim=10)))
    with torch.no_grad(), pytest.raises(ScopeError, match="needs a prompt"):
        stream(fused(network), Clip(1, 1), CacheConfig(4))


class Operations(TorchDispatchMode):
    """The names of all operations that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_a_pass_never_asks_the_device_for_a_value() -> None:
    """What would make the host wait: reading a number, or a size that depends on numbers."""
    network = lively(DiT(tiny_config(text_dim=10, **FROM_PREVIOUS)))
    with torch.no_grad():
        made, cache, clip, windows = one_chunk(network)
        plan, embedded, text = (
            made.plan_chunk(clip.latents, cache, windows),
            made.embed_time(torch.full((1, 1), TIMESTEP), 1),
            prompt(network, 1),
        )
        with Operations() as operations:
            made.step(clip.latents, embedded, cache, plan, text_cache=text)
            cache.commit()
    assert "aten.addmm" in operations.seen
    waits = {
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten.item",
        "aten.masked_select",
        "aten.index_put",
        "aten.index",
    }
    assert not waits & operations.seen


def test_the_step_is_one_graph() -> None:
    network = lively(DiT(tiny_config(text_dim=10, layers=1, **FROM_PREVIOUS)))
    with torch.no_grad():
        made, cache, clip, windows = one_chunk(network)
        text = prompt(network, 1)
        plan, embedded = made.plan_chunk(clip.latents, cache, windows), made.embed_time(torch.full((1, 1), TIMESTEP), 1)
        eager = made.step(clip.latents, embedded, cache, plan, text_cache=text)
        whole = torch.compile(made.step, fullgraph=True, backend="eager")
        compiled = whole(clip.latents, embedded, cache, plan, text_cache=text)
    torch.testing.assert_close(compiled, eager, atol=LIMIT, rtol=0)
