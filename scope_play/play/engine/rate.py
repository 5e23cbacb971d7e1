"""What another way of denoising will cost, from what the last chunk took."""

from __future__ import annotations

from collections.abc import Mapping

from scope_play.sampling.stream_config import StreamConfig


def expected_fps(timings: Mapping[str, float], before: StreamConfig, after: StreamConfig, frames: int) -> float | None:
    """Frames a second, if a pass costs as its branches do and a `window` pass as its latents; None before a chunk.

    timings: seconds of a chunk's "denoise", "decode" and "commit", as it was made under `before`.
    """
    if "denoise" not in timings:
        return None

    def one_pass(config: StreamConfig) -> float:
        latents = config.chunk + (config.window if config.mode == "window" else 0)
        return config.branches * latents

    ratio = one_pass(after) / one_pass(before)
    denoise = timings["denoise"] * ratio * after.steps / before.steps
    a_pass = timings["denoise"] / before.steps * ratio
    commit = a_pass if after.mode == "cached" else 0.0
    return frames / (denoise + timings.get("decode", 0.0) + commit)
