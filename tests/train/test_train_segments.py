"""Who sees whom in training must be who sees whom in play."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.train.rollout import rollout
from scope_play.train.segments import Segment, join, random_segment, whole
from tests.helpers.stream_cases import two_stream

SMALL = DiTConfig(
    dim=32, layers=2, heads=2, ffn_dim=48, in_channels=4, out_channels=4, text_dim=None, causal=True, prediction="clean"
)


def test_whole_is_the_two_stream_mask_without_its_unused_frames() -> None:
    frames, window = 7, 3
    full = two_stream(frames, window=window)
    kept = [*range(frames - 1), *range(frames + 1, 2 * frames)]
    ours = whole(frames).layout(window)
    assert full.visible is not None
    assert torch.equal(ours.visible, full.visible[kept][:, kept])
    assert torch.equal(ours.action_index, full.action_index[kept])


@settings(max_examples=30)
@given(st.integers(4, 40), st.integers(1, 12), st.integers(1, 10), st.integers(0, 10**6))
def test_random_segments_fit_and_have_their_window(latents: int, length: int, window: int, seed: int) -> None:
    segment = random_segment(latents, length, window, torch.Generator().manual_seed(seed))
    assert segment.end <= latents
    assert segment.first - segment.begin == min(window, segment.first)


def test_impossible_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="begin < first"):
        Segment(2, 2, 4)


@pytest.mark.parametrize("from_previous", [False, True])
def test_one_training_pass_predicts_what_streaming_would(from_previous: bool) -> None:
    """Self-forcing rests on this: with generated latents as context, the parallel pass repeats the rollout."""
    torch.manual_seed(0)
    model = DiT(replace(SMALL, from_previous=from_previous)).eval()
    frames, window = 9, 3
    buttons, sticks = (torch.rand(2, 4 * frames, 6) > 0.5).float(), torch.rand(2, 4 * frames, 4)
    first = torch.randn(2, 4, 4, 4)
    played = rollout(
        model, first, buttons, sticks, frames, window=window, sigmas=(1.0,), draw=torch.Generator().manual_seed(3)
    ).latents
    draw = torch.Generator().manual_seed(3)
    noise = torch.cat([torch.randn((2, 4, 1, 4, 4), generator=draw) for _ in range(frames - 1)], 2)
    segment = whole(frames)
    inputs, timesteps = join(played[:, :, segment.contexts], noise, torch.ones(2, frames - 1))
    with torch.no_grad():
        velocity = model(inputs, timesteps, layout=segment.layout(window), buttons=buttons, sticks=sticks)
    torch.testing.assert_close(noise - velocity[:, :, frames - 1 :], played[:, :, 1:], atol=1e-4, rtol=1e-4)


def test_targets_do_not_see_each_other_or_the_future() -> None:
    torch.manual_seed(0)
    model = DiT(SMALL).eval()
    segment = Segment(1, 3, 7)
    context, targets = torch.randn(1, 4, 5, 4, 4), torch.randn(1, 4, 4, 4, 4)
    buttons, sticks = torch.zeros(1, 28, 6), torch.rand(1, 28, 4)

    def run(context: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        inputs, timesteps = join(context, targets, torch.full((1, 4), 0.7))
        with torch.no_grad():
            return model(inputs, timesteps, layout=segment.layout(9), buttons=buttons, sticks=sticks)[:, :, 5:]

    base = run(context, targets)
    other = targets.clone()
    other[:, :, 2] = 0
    assert torch.equal(
        (run(context, other) != base).any(1).any(-1).any(-1)[0], torch.tensor([False, False, True, False])
    )
    late = context.clone()
    late[:, :, 3] = 0
    assert torch.equal((run(late, targets) != base).any(1).any(-1).any(-1)[0], torch.tensor([False, False, True, True]))
