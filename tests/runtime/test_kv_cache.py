"""Cached streaming equals one uncached block-causal pass: the promise everything in play rests on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layout import block_causal
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT
from tests.helpers.stream_cases import LIMIT, NOISY, TIMESTEP, Clip, advance, lively, stream, tiny_config, two_stream


@settings(max_examples=25, deadline=None)
@given(
    chunk=st.integers(1, 3),
    window=st.integers(1, 14),
    batch=st.sampled_from([1, 3]),
    heads=st.sampled_from([1, 2, 3]),
    from_previous=st.booleans(),
)
def test_cached_equals_masked(chunk: int, window: int, batch: int, heads: int, from_previous: bool) -> None:
    changes = {"prediction": "clean", "from_previous": True} if from_previous else {}
    network = lively(DiT(tiny_config(heads=heads, **changes)))
    clip = Clip(batch, 1 + 12 // chunk * chunk)
    layout = block_causal(clip.latents.shape[2], chunk=chunk, window=window)
    with torch.no_grad():
        whole = network(
            clip.latents, torch.full((batch, 1), TIMESTEP), layout=layout, buttons=clip.buttons, sticks=clip.sticks
        )
        cached = stream(PlainDiT(network), clip, CacheConfig(window, chunk))
    assert (whole - cached).abs().max() <= LIMIT
    assert whole.std() > 0.1


def test_slots_out_of_sight_may_hold_anything() -> None:
    network, clip = PlainDiT(lively(DiT(tiny_config()))), Clip(2, 9)
    with torch.no_grad():
        plain = stream(network, clip, CacheConfig(4, 2))
        poisoned = stream(network, clip, CacheConfig(4, 2), poison=float("nan"))
    assert torch.equal(plain, poisoned)


def test_what_leaves_the_window_is_forgotten() -> None:
    network, clip = PlainDiT(lively(DiT(tiny_config(layers=1)))), Clip(1, 9)
    changed = Clip(1, 9)
    changed.latents[:, :, 1] += 1  # within one block pixels remember what frames saw, so memory is two windows long
    with torch.no_grad():
        for window, remembered in ((3, False), (4, True)):
            config = CacheConfig(window, 1)
            difference = (stream(network, clip, config) - stream(network, changed, config))[:, :, -1].abs().max()
            assert (difference > 1e-4) == remembered


def test_two_stream_targets_see_clean_context_and_themselves() -> None:
    """Training's two-stream pass gives each target what streaming would: earlier clean latents and its own noise."""
    network, clip = lively(DiT(tiny_config())), Clip(1, 5)
    plain = PlainDiT(network)
    both = torch.cat([clip.latents, clip.noise], 2)
    times = torch.cat([torch.zeros(1, 5), torch.full((1, 5), NOISY)], 1)
    with torch.no_grad():
        out = network(both, times, layout=two_stream(5), buttons=clip.buttons, sticks=clip.sticks)[:, :, 5:]
        cache = StreamCache(network.config, CacheConfig(8), batch=1, tokens=6)
        buttons, sticks = (window_rows(rows, 5, ActionConfig()) for rows in (clip.buttons, clip.sticks))
        for index in range(5):
            part = slice(index, index + 1)
            windows = ActionWindows(sticks[:, part], buttons[:, part])
            noisy = advance(plain, clip.noise[:, :, part], NOISY, cache, windows)
            assert (noisy - out[:, :, part]).abs().max() <= LIMIT
            advance(plain, clip.latents[:, :, part], 0.0, cache, windows)
            cache.commit()


def test_positions_have_no_end() -> None:
    """A world that has run for days answers as a young one: rotary scores depend on differences alone."""
    network, clip = PlainDiT(lively(DiT(tiny_config()))), Clip(1, 9)
    young, old = (StreamCache(network.config, CacheConfig(4), batch=1, tokens=6) for _ in range(2))
    old.position = 4 * 1_000_000
    buttons, sticks = (window_rows(rows, 9, ActionConfig()) for rows in (clip.buttons, clip.sticks))
    with torch.no_grad():
        for index in range(9):
            part = slice(index, index + 1)
            windows = ActionWindows(sticks[:, part], buttons[:, part])
            results = []
            for cache in (young, old):
                results.append(advance(network, clip.latents[:, :, part], 0.0, cache, windows))
                cache.commit()
                for memory in cache.memories():
                    memory.filled = min(index + 1, 4)
            assert (results[0] - results[1]).abs().max() <= 1e-4


def test_snapshot_and_restore_are_exact() -> None:
    network, clip = PlainDiT(lively(DiT(tiny_config()))), Clip(1, 9)
    cache = StreamCache(network.config, CacheConfig(3, 1), batch=1, tokens=6)
    buttons, sticks = (window_rows(rows, 9, ActionConfig()) for rows in (clip.buttons, clip.sticks))

    def run(indices: range) -> list[Tensor]:
        made = []
        for index in indices:
            part = slice(index, index + 1)
            windows = ActionWindows(sticks[:, part], buttons[:, part])
            made.append(advance(network, clip.latents[:, :, part], 0.0, cache, windows))
            cache.commit()
        return made

    with torch.no_grad():
        run(range(4))
        kept = cache.snapshot()
        first = run(range(4, 9))
        cache.restore(kept)
        second = run(range(4, 9))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert kept.nbytes >= cache.nbytes


def test_action_rows_too_few_are_named() -> None:
    with pytest.raises(ScopeError, match="5 latent frames need 16 action rows, but 15"):
        window_rows(torch.zeros(1, 15, 6), 5, ActionConfig())


def test_commit_without_a_chunk_is_refused() -> None:
    cache = StreamCache(tiny_config(), CacheConfig(4), batch=1, tokens=6)
    with pytest.raises(ScopeError, match="no chunk in flight"):
        cache.commit()
