"""A world of the nano family so small that a test can step it, with random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from scope_play.loading.nano import NativeConfig, native_model, untrained_nano_config
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.sampling.stream_config import StreamConfig
from scope_play.world import World
from tests.helpers.small_codec import small_codec

SIZE = (32, 64)


def small_config(action: ActionConfig | None = None, text_dim: int | None = None, **stream: float) -> NativeConfig:
    config = untrained_nano_config()
    network = replace(
        config.world, dim=48, layers=2, heads=2, ffn_dim=64, in_channels=32, out_channels=32, text_dim=text_dim
    )
    network = network if action is None else replace(network, action=action)
    codec = small_codec(frame=SIZE)
    return replace(
        config,
        world=network,
        codec=codec,
        size=SIZE,
        sampling=StreamConfig(**({"window": 4, "steps": 2} | stream)),  # type: ignore[arg-type]
    )


def small_world(
    rounded: bool = False, action: ActionConfig | None = None, text_dim: int | None = None, **stream: float
) -> World:
    """`rounded` weights are those of a bfloat16 file, which play compiled."""
    config = small_config(action, text_dim, **stream)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, codec = DiT(config.world), NanoCodec(config.codec)
        for parameter in (*network.parameters(), *codec.parameters()):
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.1)
            if rounded:
                parameter.data = parameter.data.bfloat16().float()
    model = native_model(network, codec, config, "small")
    model.first_scene = lambda: np.full((*SIZE, 3), 90, np.uint8)
    return World(model)
