"""A chunk committed jointly with the next leaves the same caches, and the same next chunk, as one committed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import torch_kernels
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cuda_graph import GraphedDiT, run_again
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.joint_commit import joint_layout
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.sampling import stream
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream import StreamingNetwork, commits_jointly
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.stream_cases import GRID, LIMIT, NOISY, Clip, forced, lively, tiny_config

FROM_PREVIOUS = {"prediction": "clean", "from_previous": True}
TWINS = torch_kernels("a test")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    chunk=st.integers(1, 3),
    window=st.integers(1, 6),
    batch=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2, 3]),
    from_previous=st.booleans(),
    with_text=st.booleans(),
    with_keep=st.booleans(),
)
def test_equals_a_commit_of_its_own(
    chunk: int,
    window: int,
    batch: int,
    heads: int,
    from_previous: bool,
    with_text: bool,
    with_keep: bool,
) -> None:
    window = max(window, chunk)
    changes = FROM_PREVIOUS if from_previous else {}
    network = lively(DiT(tiny_config(heads=heads, text_dim=10 if with_text else None, **changes)))
    clip = Clip(batch, 1 + 6 // chunk * chunk)
    keep = torch.arange(batch) % 2 if with_keep else None
    with torch.no_grad():
        text = network.text_keys(torch.randn(batch, 7, 10)) if with_text else None
        alone = forced(PlainDiT(network), clip, CacheConfig(window, chunk), keep, text)
        joint = forced(FusedDiT(network, TWINS), clip, CacheConfig(window, chunk, joint=True), keep, text)
    assert alone.std() > 0.1
    assert (alone - joint).abs().max() <= LIMIT


def played(network: DiT, form: str, config: StreamConfig, joint: bool, clip: Clip) -> list[Tensor]:
    """The clip's noise through a stream, with a new prompt half way and three chunks made again after a restore."""
    made_form: StreamingNetwork = PlainDiT(network) if form == "dit" else FusedDiT(network, TWINS)
    if form == "graphed":
        made_form = GraphedDiT(FusedDiT(network, TWINS), run_again)
    count, made, kept = clip.latents.shape[2], [], None
    with torch.inference_mode():
        stream = CachedStream(made_form, config, clip.latents[:, :, :1], joint=joint)
        starts = list(range(1, count - config.chunk + 1, config.chunk))
        rows = [window_rows(values, count, ActionConfig()) for values in (clip.sticks, clip.buttons)]
        for turn, start in enumerate([*starts, *starts[-3:]]):
            if turn in (0, len(starts) // 2) and network.text_embedding is not None:
                contexts = torch.randn(2, 2, 5, 10, generator=torch.Generator().manual_seed(turn))
                stream.set_text(*(network.text_keys(context) for context in contexts))
            if turn == len(starts) - 3:
                kept = stream.snapshot()
            if turn == len(starts):
                assert kept is not None
                stream.restore(kept)
            part = slice(start, start + config.chunk)
            windows = ActionWindows(*(values[:, part] for values in rows))
            made.append(stream.denoise(clip.noise[:, :, part], windows))
            stream.commit()
    return made


@pytest.mark.parametrize("form", ["fused", "graphed"])
@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (StreamConfig(steps=1, window=4), FROM_PREVIOUS),
        (StreamConfig(steps=2, window=3, action_guidance=1.5), {}),
        (StreamConfig(steps=2, window=5, chunk=2, guidance=2.0, action_guidance=1.5), {"text_dim": 10}),
        (StreamConfig(steps=2, window=4, chunk=2, guidance=2.0), {"text_dim": 10, "causal": False}),
    ],
)
def test_a_stream_gives_the_same_chunks(form: str, config: StreamConfig, changes: dict[str, object]) -> None:
    network, clip = lively(DiT(tiny_config(**changes))), Clip(2, 13)
    alone, joint = played(network, "dit", config, False, clip), played(network, form, config, True, clip)
    for a, b in zip(alone, joint, strict=True):
        assert (a - b).abs().max() <= LIMIT * max(1.0, float(a.abs().max()))
    assert all(torch.equal(a, b) for a, b in zip(joint[-6:-3], joint[-3:], strict=True))


def test_each_sees_what_it_would_alone() -> None:
    # Window 3, and latents 0 .. 8 behind: slots of the ring hold 6, 7, 8. Chunk 9, 10 is committed, 11, 12 denoised.
    layout = joint_layout(9, 2, 2, window=3)
    assert layout.positions.tolist() == [11, 12, 9, 10]
    assert layout.visible is not None
    #                                        noisy  clean  ring
    assert layout.visible[0].tolist() == [*[True] * 4, False, False, True]
    assert layout.visible[3].tolist() == [False, False, *[True] * 5]
    assert torch.equal(layout.visible[0], layout.visible[1])
    with pytest.raises(ScopeError, match="4 latents cannot be committed with the next"):
        joint_layout(9, 4, 4, window=3)


def test_the_plain_network_commits_on_its_own() -> None:
    network = PlainDiT(DiT(tiny_config()))
    cache = StreamCache(network.config, CacheConfig(4, joint=True), batch=1, tokens=6)
    with pytest.raises(ValueError, match="commits chunks on their own"):
        network.plan_chunk(torch.zeros(1, 8, 2, 2, 3), cache, ActionWindows(None, None), 1)


def test_many_tokens_and_short_windows_are_committed_alone() -> None:
    assert commits_jointly(StreamConfig(window=12), True, tokens=16)
    assert not commits_jointly(StreamConfig(window=12), True, tokens=390)
    assert not commits_jointly(StreamConfig(window=12, chunk=3), True, tokens=stream.FEW_TOKENS // 2)
    assert not commits_jointly(StreamConfig(window=2, chunk=2), False, tokens=4)


def test_the_joint_pass_is_one_graph() -> None:
    network = lively(DiT(tiny_config(layers=1, text_dim=10, **FROM_PREVIOUS)))
    made, clip = FusedDiT(network, TWINS), Clip(1, 2)
    whole = torch.compile(made.step, fullgraph=True, backend="eager")
    cache = StreamCache(network.config, CacheConfig(4, 1, joint=True), batch=1, tokens=GRID[0] * GRID[1])
    windows = ActionWindows(torch.rand(1, 2, 16, 4), torch.ones(1, 2, 16, 6))
    with torch.no_grad():
        text = network.text_keys(torch.randn(1, 7, 10))
        time = made.embed_time(torch.tensor([[NOISY, 0.0]]), 2)
        for _ in range(4):
            made.step(clip.latents, time, cache, made.plan_chunk(clip.latents, cache, windows, 1), text_cache=text)
            cache.commit()
        plan = made.plan_chunk(clip.latents, cache, windows, 1)
        eager = made.step(clip.latents, time, cache, plan, text_cache=text)
        compiled = whole(clip.latents, time, cache, plan, text_cache=text)
    torch.testing.assert_close(compiled, eager, atol=LIMIT, rtol=0)
