"""Caches in 8 bits: close to those in full, the same fused or not, exact to keep and to go back to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import torch_kernels
from scope_play.kernels.fp8 import round_rows, widen
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cuda_graph import GraphedDiT, run_again
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig, KVMemory, StreamCache
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream import commits_jointly
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.stream_cases import LIMIT, Clip, lively, stream, tiny_config

TWINS = torch_kernels("a test")


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    chunk=st.integers(1, 3),
    window=st.integers(1, 8),
    batch=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2, 3]),
)
def test_close_to_the_cache_in_full(chunk: int, window: int, batch: int, heads: int) -> None:
    network = lively(DiT(tiny_config(heads=heads)))
    own = PlainDiT(network)
    clip, config = Clip(batch, 1 + 6 // chunk * chunk), CacheConfig(window, chunk)
    with torch.no_grad():
        full = stream(own, clip, config)
        plain = stream(own, clip, replace(config, kv_dtype="fp8"))
        fused = stream(FusedDiT(network, TWINS), clip, replace(config, kv_dtype="fp8"))
        poisoned = stream(FusedDiT(network, TWINS), clip, replace(config, kv_dtype="fp8"), poison=float("nan"))
    assert 1e-5 < relative(plain, full) < 0.03
    # Both round numbers that are equal to 1e-7, and a few of them fall on different sides.
    assert relative(fused, plain) < 0.3 * relative(plain, full)
    assert torch.equal(fused, poisoned)


def test_numbers_are_rounded_once_and_the_chunk_in_flight_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a cache in full whose numbers are rounded when they are committed."""
    network, clip, config = PlainDiT(lively(DiT(tiny_config()))), Clip(1, 9), CacheConfig(3, 2)
    commit = KVMemory.commit

    def rounding(memory: KVMemory, source: list[int], target: list[int], filled: int) -> None:
        commit(memory, source, target, filled)
        if memory.keys.shape[2] > 1:  # the buttons' stay as they are
            for tensor in (memory.keys, memory.values):
                tensor[:, target] = widen(round_rows(tensor[:, target]), tensor.dtype)

    with torch.no_grad():
        ours = stream(network, clip, replace(config, kv_dtype="fp8"))
        full = stream(network, clip, config)
        monkeypatch.setattr(KVMemory, "commit", rounding)
        theirs = stream(network, clip, config)
    assert (theirs - ours).abs().max() <= LIMIT < (full - ours).abs().max()


def test_snapshot_restore_and_recordings_are_exact() -> None:
    network, clip = lively(DiT(tiny_config())), Clip(1, 8)
    fused, config = FusedDiT(network, TWINS), StreamConfig(steps=2, window=3, cache="fp8")
    assert not commits_jointly(config, causal=True, tokens=6)
    rows = [window_rows(values, 8, ActionConfig()) for values in (clip.sticks, clip.buttons)]

    def run(running: CachedStream, indices: range) -> list[Tensor]:
        made = []
        for index in indices:
            part = slice(index, index + 1)
            made.append(running.denoise(clip.noise[:, :, part], ActionWindows(*(values[:, part] for values in rows))))
            running.commit()
        return made

    first = clip.latents[:, :, :1]
    running, graphed = CachedStream(fused, config, first), CachedStream(GraphedDiT(fused, run_again), config, first)
    with torch.inference_mode():
        start = run(running, range(1, 5))
        kept = running.snapshot()
        rest = run(running, range(5, 8))
        running.restore(kept)
        again = run(running, range(5, 8))
        recorded = run(graphed, range(1, 8))
    assert all(torch.equal(a, b) for a, b in zip(rest, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(start + rest, recorded, strict=True))
    assert kept.nbytes >= running.cache.nbytes


def test_it_takes_half_the_room() -> None:
    sizes = [
        StreamCache(tiny_config(dim=256), CacheConfig(12, 1, kv_dtype), batch=1, tokens=6, dtype=torch.bfloat16).nbytes
        for kv_dtype in ("full", "fp8")
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ScopeError, match="cache 'fp4' is not known; use one of full, fp8"):
        CacheConfig(kv_dtype="fp4")
    with pytest.raises(ScopeError, match="mode 'window' has no cache"):
        StreamConfig(mode="window", cache="fp8")
    with pytest.raises(ScopeError, match="no room for joint passes"):
        CacheConfig(kv_dtype="fp8", joint=True)
