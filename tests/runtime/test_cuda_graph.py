"""Recorded passes: the same numbers from fixed buffers, and one recording for each fill of the window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scope_play.kernels.dispatch import torch_kernels
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.cuda_graph import GraphedDiT, Replay, run_again
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream import StreamingNetwork
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.stream_cases import Clip, lively, tiny_config


class Counting:
    """Records nothing, and counts what it was asked to record and how often that ran."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()

    def __call__(self, function: Replay) -> Replay:
        number = len(self.runs)
        self.runs[number] = 0

        def replay() -> Tensor:
            self.runs[number] += 1
            return function()

        return replay


def play(
    network: StreamingNetwork,
    config: StreamConfig,
    clip: Clip,
    text: Callable[[int], list | None],
    joint: bool | None = None,
) -> Tensor:
    """The clip's noise through a stream, with a change of prompt half way and a step back near the end."""
    stream = CachedStream(network, config, clip.latents[:, :, :1], joint=joint)
    count = clip.latents.shape[2]
    rows = [window_rows(values, count, ActionConfig()) for values in (clip.sticks, clip.buttons)]
    made, kept = [], None
    for index in [*range(1, count), count - 2, count - 1]:
        if index in (1, count // 2):
            prompt = text(index)
            stream.set_text(prompt, prompt)
        if index == count - 2:
            kept = kept or stream.snapshot()
            stream.restore(kept)
        part = slice(index, index + 1)
        made.append(stream.denoise(clip.noise[:, :, part], ActionWindows(*(values[:, part] for values in rows))))
        stream.commit()
    return torch.cat(made, 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("text_dim", [None, 10])
def test_buffers_change_nothing(causal: bool, text_dim: int | None) -> None:
    network = lively(DiT(tiny_config(causal=causal, text_dim=text_dim)))
    fused = FusedDiT(network, torch_kernels("a test"))
    config = StreamConfig(steps=2, window=3, guidance=1.0, action_guidance=1.5)

    def text(index: int) -> list | None:
        context = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(index))
        return None if text_dim is None else fused.text_keys(context)

    with torch.inference_mode():
        plain = play(fused, config, Clip(2, 9), text)
        graphed = play(GraphedDiT(fused, run_again), config, Clip(2, 9), text)
    assert torch.equal(plain, graphed)
    assert plain.std() > 0.1


@pytest.mark.parametrize(
    ("joint", "runs"),
    [
        # Nothing before the start image, then 1, 2 and 3 latents: two denoising passes and a commit each. The new
        # prompt is heard in what is remembered: three latents are committed again, from none on.
        (False, [2, 4, 4, 24]),
        # Commit and first denoising pass, and the second one, by turns; commits of their own for the new prompt.
        (True, [1, 2, 1, 2, 1, 10, 1, 6]),
    ],
)
def test_one_recording_per_fill_and_then_one_for_ever(joint: bool, runs: list[int]) -> None:
    fused = FusedDiT(lively(DiT(tiny_config(layers=1))), torch_kernels("a test"))
    record = Counting()
    with torch.inference_mode():
        play(GraphedDiT(fused, record), StreamConfig(steps=2, window=3), Clip(1, 9), lambda index: None, joint)
    assert list(record.runs.values()) == runs
