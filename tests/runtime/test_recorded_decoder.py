"""A decoder whose work on a latent is a recording, from game to game."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from scope_play.bench.random_world import SHAPES, random_codec
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.runtime.cuda_graph import Replay
from scope_play.runtime.recorded_decoder import Decoders, RecordedDecoder


class FixedOutput:
    """As a CUDA graph: a replay writes its result where it wrote the one before."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Replay) -> Replay:
        self.recorded += 1
        output: list[Tensor] = [function()]

        def replay() -> Tensor:
            self.replayed += 1
            return output[0].copy_(function())

        return replay


def codec() -> WanVAE:
    made = random_codec(SHAPES["small-random"].vae, torch.float32, torch.device("cpu"), "full")
    assert isinstance(made, WanVAE)
    return made


def latents(count: int, seed: int) -> list[Tensor]:
    return list(torch.randn(count, 1, 48, 1, 2, 3, generator=torch.Generator().manual_seed(seed)).unbind(0))


def test_the_same_frames_in_one_game_after_the_other() -> None:
    vae, record = codec(), FixedOutput()
    decoders = Decoders(record)
    for game in range(3):
        video = latents(6, game)
        plain = vae.decoder()
        decoder = decoders.take(vae.decoder(), video[0])
        for latent in video[:4]:
            assert torch.equal(decoder.push(latent), plain.push(latent))
        both = torch.cat(video[4:], 2)
        assert torch.equal(decoder.push(both), plain.push(both))
        assert decoder.nbytes == plain.nbytes
        assert decoder.idle_bytes == decoders.idle_bytes == 0
        decoders.give_back(decoder)
        assert decoders.idle_bytes == plain.nbytes
    assert record.recorded == 1
    assert record.replayed == 3 * 4  # all but one frame, and what has a past that is not there yet


def test_going_back_and_forth_keeps_the_recording() -> None:
    """From any moment of a game to any other, the first ones included, in host memory or not."""
    vae, record, chance = codec(), FixedOutput(), random.Random(4)
    video = latents(7, 9)
    decoder, plain = RecordedDecoder(vae.decoder(), video[0], record), vae.decoder()
    moments, expected = [], []
    for latent in video:
        moments.append(decoder.clone(torch.device("cpu")))
        expected.append(plain.push(latent))
        assert torch.equal(decoder.push(latent), expected[-1])
    for _ in range(20):
        at = chance.randrange(len(video))
        decoder.adopt(moments[at])
        for latent, frames in list(zip(video, expected, strict=True))[at : at + 3]:
            assert torch.equal(decoder.push(latent), frames)
    assert record.recorded == 1
