"""What version 0.1 left behind still opens: a clip, a settings file, a controller map."""

from __future__ import annotations

import numpy as np

from scope_play.loading.request import LoadRequest, request_like
from scope_play.play import settings
from scope_play.play.input.bindings import ControllerMap, load_map
from scope_play.recording.clip import read_clip
from scope_play.recording.replay import clip_script, play
from scope_play.world import open_world
from tests.helpers.golden import REPOSITORY

LEFT = REPOSITORY / "tests" / "golden" / "v0_1"


def test_a_clip_is_read_and_played_again() -> None:
    clip = read_clip(LEFT / "clip")
    assert clip.rows.shape == (9, 10)
    assert clip.rows[5, 0] == 1
    request = request_like(clip.metadata.header)
    assert request == LoadRequest(
        "nano-96x160",
        device="cpu",
        precision="fp32",
        decoder="full",
        steps=1,
        shift=1.0,
        window=12,
        chunk=1,
        guidance=1.0,
        action_guidance=1.0,
        mode="cached",
        cache="full",
    )
    frames = [frame for _, frame in play(clip_script(clip), open_world(request))]
    assert len(frames) == 9
    # Another processor may round otherwise, but it is the same game.
    assert np.abs(frames[0].astype(int) - clip.start_image().astype(int)).max() == 0


def test_settings_and_controls_are_read() -> None:
    found = settings.load(LEFT / "settings.toml")
    assert (found.seed, found.mode, found.window_size, found.history_mb) == (7, "responsive", "800x600", 128)
    assert load_map(LEFT / "controller.toml") == ControllerMap()
