"""After a rehearsal nothing is left to record: whatever a game does, and in the games after it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play.kernels.dispatch import torch_kernels
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.berths import Berths
from scope_play.runtime.cuda_graph import GraphedDiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.sampling.cached_stream import CachedState, CachedStream
from scope_play.sampling.stream_config import StreamConfig
from tests.helpers.recorders import Counting
from tests.helpers.stream_cases import Clip, lively, tiny_config


def form(*, causal: bool, text: bool) -> FusedDiT:
    config = tiny_config(causal=causal, layers=1, dim=16, heads=1, ffn_dim=16, text_dim=6 if text else None)
    return FusedDiT(lively(DiT(config)), torch_kernels("a test"))


def prompt(network: FusedDiT, seed: int, length: int = 4) -> list[TextKV] | None:
    if network.config.text_dim is None:
        return None
    return network.text_keys(torch.randn(1, length, 6, generator=torch.Generator().manual_seed(seed)))


class Game:
    """A clip's actions and noise through a stream, chunk by chunk, again from the start when it ends."""

    def __init__(self, stream: CachedStream, clip: Clip) -> None:
        self.stream, self.clip, self.index = stream, clip, 1
        count = clip.latents.shape[2]
        self.rows = [window_rows(values, count, ActionConfig()) for values in (clip.sticks, clip.buttons)]

    def chunk(self) -> Tensor:
        length = self.stream.config.chunk
        if self.index + length > self.clip.latents.shape[2]:
            self.index = 1
        part = slice(self.index, self.index + length)
        self.index += length
        made = self.stream.denoise(self.clip.noise[:, :, part], ActionWindows(*(x[:, part] for x in self.rows)))
        self.stream.commit()
        return made


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    causal=st.booleans(),
    text=st.booleans(),
    chunk=st.integers(1, 4),
    window=st.integers(1, 9),
    other_window=st.integers(1, 9),
    steps=st.integers(1, 3),
    joint=st.booleans(),
    eighths=st.booleans(),
    guidance=st.sampled_from([(1.0, 1.0), (3.0, 1.0), (1.0, 1.5)]),
    seed=st.integers(0, 2**31),
)
def test_nothing_is_left_to_record(
    causal: bool,
    text: bool,
    chunk: int,
    window: int,
    other_window: int,
    steps: int,
    joint: bool,
    eighths: bool,
    guidance: tuple[float, float],
    seed: int,
) -> None:
    network, record, chance = form(causal=causal, text=text), Counting(), random.Random(seed)
    config = StreamConfig(steps=steps, chunk=chunk, window=window, guidance=guidance[0], action_guidance=guidance[1])
    config = replace(config, cache="fp8" if eighths and not joint else "full")
    berths, clip = Berths(network, record), Clip(1, 12)
    with torch.inference_mode():
        negative = prompt(network, 9)

        recorded, configs = 0, [config, replace(config, window=other_window)]

        def opened(seed: int) -> CachedStream:
            nonlocal recorded
            assert record.count == recorded, "in the game before"
            now = configs[0]
            together = joint and now.room(causal) <= now.window
            stream = CachedStream(network, now, clip.latents[:, :, :1], joint=together, berths=berths)
            stream.set_text(prompt(network, seed), negative)
            assert isinstance(stream.network, GraphedDiT)
            recorded = record.count
            return stream

        moments: list[tuple[StreamConfig, CachedState]] = []
        for game in range(2):
            stream = opened(game)
            player = Game(stream, clip)
            for _ in range(14):
                player.chunk()
                match chance.randrange(8):
                    case 0:
                        stream.set_text(prompt(network, chance.randrange(9)), negative)
                    case 1:
                        moments.append((configs[0], stream.snapshot()))
                    case 2:
                        fitting = [state for of, state in moments if of == configs[0]]
                        if fitting:
                            stream.restore(chance.choice(fitting))
                    case 3 | 4 as deed:
                        if deed == 4:  # more is remembered from now on, or less
                            configs.reverse()
                        player.stream = opened(0)
                        player.stream.recall(stream.past)
                        stream.close()
                        stream = player.stream
            stream.close()
        assert record.count == recorded > 0
        again = opened(0)
        assert record.count == recorded, "of a shape that was there before"
        again.close()


@pytest.mark.parametrize("causal", [True, False])
def test_a_rehearsed_game_is_the_game(causal: bool) -> None:
    """Also in a berth where another game was played, and where a longer prompt came in the middle."""
    network, config = form(causal=causal, text=True), StreamConfig(steps=2, window=3, guidance=2.0)
    berths, clip = Berths(network, Counting()), Clip(1, 9)
    with torch.inference_mode():

        def play(stream: CachedStream) -> Tensor:
            stream.set_text(prompt(network, 1), prompt(network, 2))
            player = Game(stream, clip)
            made = [player.chunk() for _ in range(4)]
            stream.set_text(prompt(network, 3, 5), prompt(network, 2, 5))
            made += [player.chunk() for _ in range(3)]
            return torch.stack(made)

        plain = play(CachedStream(network, config, clip.latents[:, :, :1]))
        for _ in range(2):
            stream = CachedStream(network, config, clip.latents[:, :, :1], berths=berths)
            assert torch.equal(play(stream), plain)
            stream.close()
    assert plain.std() > 0.01


def test_what_idles_is_of_one_shape() -> None:
    network = form(causal=True, text=False)
    berths, first = Berths(network, Counting()), Clip(1, 1).latents
    small, large = StreamConfig(window=2), StreamConfig(window=5)
    one, two = (CachedStream(network, small, first, berths=berths) for _ in range(2))
    assert berths.idle_bytes == 0
    one.close()
    two.close()
    two.close()  # twice is once
    assert berths.idle_bytes == one.nbytes + two.nbytes
    other = CachedStream(network, large, first, berths=berths)
    assert berths.idle_bytes == 0
    again = CachedStream(network, small, first, berths=berths)
    other.close()
    assert berths.idle_bytes == 0
    again.close()
    assert berths.idle_bytes == again.nbytes
