"""A recorded clip folder made without playing: grey pictures that a bar fills, and a turn to the right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from scope_play.actions import write_actions


def make_clip(
    folder: Path,
    frames: int,
    brightness: int,
    rows: int | None = None,
    *,
    rate: int = 20,
    times: Sequence[int] | None = None,
) -> Path:
    """`times` are the frames' numbers on the video's clock, if they do not follow each other."""
    import av

    folder.mkdir(parents=True)
    with av.open(str(folder / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(frames):
            picture = np.full((64, 96, 3), brightness, np.uint8)
            picture[:, : 2 * index] = 255 - brightness
            shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown.pts, shown.time_base = index if times is None else times[index], Fraction(1, rate)
            for packet in stream.encode(shown):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    actions = np.zeros((frames if rows is None else rows, 10), np.float32)
    actions[:, 8] = np.linspace(-1, 1, len(actions))
    write_actions(folder / "actions_raw.parquet", actions)
    (folder / "metadata.json").write_text(json.dumps({"fps": 20}))
    return folder
