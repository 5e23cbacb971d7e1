"""Nano's autoencoder at sizes that cost a test nothing."""

from __future__ import annotations

from typing import Any

from scope_play.model.nano_codec.codec import NanoCodecConfig
from scope_play.model.nano_codec.light_field import CameraConfig, FieldConfig


def small_codec(**changes: Any) -> NanoCodecConfig:
    """A frame of 32 x 64 and eight features unless told otherwise."""
    sizes: dict[str, Any] = {
        "frame": (32, 64),
        "latent_channels": 32,
        "camera": CameraConfig(),
        "ground": 8,
        "court": FieldConfig(width=24, layers=1, state_width=16),
        "hand": FieldConfig(width=16, layers=1, state_width=16),
        "finish_channels": 8,
        "finder_channels": 8,
        "finder_width": 16,
    }
    return NanoCodecConfig(**(sizes | changes))
