"""Where clips come from: the arena by step, and recorded folders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.train.data.folders import FolderSource, clip_folders, usable
from scope_play.train.data.sources import ArenaSource, frames_of
from tests.helpers.clip_folder import make_clip


def test_arena_clips_repeat_by_step_and_differ_between_steps() -> None:
    source = ArenaSource(seed=3, height=32, width=48)
    first, again, other = (source.clips(2, 3, "world", step) for step in (5, 5, 6))
    assert first.frames.shape == (2, frames_of(3), 32, 48, 3)
    assert first.rows.shape == (2, 9, 10)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.rows, again.rows)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.frames, source.clips(2, 3, "validation", 5).frames)


def test_clip_video_is_scaled() -> None:
    video = ArenaSource(height=32, width=48).clips(1, 2, "world", 0).video()
    assert video.shape == (1, 3, 5, 32, 48)
    assert -1 <= float(video.min()) < 0 < float(video.max()) <= 1


def test_folder_clip_is_cropped_and_its_rows_follow(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "a", 9, 40, rows=8)
    clip = FolderSource([folder], height=32, width=32, latents=3).clips(1, 3, "world", 0)
    assert clip.frames.shape == (1, 9, 32, 32, 3)
    assert clip.rows.shape == (1, 9, 10)
    assert np.array_equal(clip.rows[0, 7], clip.rows[0, 8])
    assert abs(int(clip.frames[0, 0].mean()) - 40) < 6


def test_folder_source_draws_stretches_with_their_rows(tmp_path: Path) -> None:
    folders = [make_clip(tmp_path / name, 20, brightness) for name, brightness in (("a", 30), ("b", 220))]
    make_clip(tmp_path / "c.partial", 20, 100)
    assert clip_folders(tmp_path) == folders
    source = FolderSource(folders, height=32, width=48, latents=3)
    one, same = source.clips(6, 3, "world", 1), source.clips(6, 3, "world", 1)
    assert np.array_equal(one.frames, same.frames)
    assert one.frames.shape == (6, 9, 32, 48, 3)
    steps = np.diff(one.rows[:, :, 8], axis=1)
    assert np.allclose(steps, 2 / 19, atol=1e-5)
    assert len({float(rows[0, 8]) for rows in one.rows}) > 1
    # The bar in frame i is 2 i pixels of 96: pictures and rows are of the same moments.
    for frames, rows in zip(one.frames, one.rows, strict=True):
        light = frames[0, 16].mean(-1)
        bar = int((np.abs(light - light[-1]) > 90).sum())
        assert abs(bar - round((rows[0, 8] + 1) / 2 * 19)) <= 1


def test_no_clip_reaches_over_a_rewind(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "a", 60, 40)
    cuts = (13, 25, 47)
    described = {"schema": 1, "branches": [{"frame": cut, "source_chunk": 0} for cut in cuts]}
    (folder / "metadata.json").write_text(json.dumps(described))
    assert [(part.first, part.end) for part in usable(folder, 13)] == [(0, 13), (25, 47), (47, 60)]
    source = FolderSource([folder], height=32, width=48, latents=4)
    begins = set()
    for step in range(40):
        rows = source.clips(2, 4, "world", step).rows[:, 0, 8]
        begins |= {round((value + 1) / 2 * 59) for value in rows.tolist()}
    assert begins == {0, *range(25, 35), 47}


def test_frames_that_do_not_come_twenty_a_second_are_left_out_by_the_video_s_own_word(tmp_path: Path) -> None:
    """Our metadata has no rate at its top, and others' may be wrong."""
    for rate in (24, 30, 60):
        with pytest.raises(ScopeError, match=f"has {rate} frames a second"):
            usable(make_clip(tmp_path / str(rate), 12, 40, rate=rate), 5)
    held = [*range(6), *range(9, 15)]  # a pause of four frames in the middle
    with pytest.raises(ScopeError, match="not evenly"):
        usable(make_clip(tmp_path / "held", 12, 40, times=held), 5)


def test_bad_folders_are_left_out_with_a_reason_and_only_no_good_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="no clip folder"):
        clip_folders(tmp_path)
    good = make_clip(tmp_path / "good", 12, 30)
    short, few = make_clip(tmp_path / "short", 6, 30), make_clip(tmp_path / "few", 40, 30, rows=5)
    bare, broken, odd = (make_clip(tmp_path / name, 12, 30) for name in ("bare", "broken", "odd"))
    (bare / "metadata.json").unlink()
    (broken / "video.mp4").write_bytes(b"not a video")
    (odd / "metadata.json").write_text('{"branches": [7]}')
    source = FolderSource([short, few, bare, broken, odd, good], height=32, width=48, latents=3)
    assert source.clips(2, 3, "world", 0).frames.shape[0] == 2
    for reason, why in zip(
        source.left_out,
        ("6 frames where 9", "5 rows for 40 frames", r"no metadata\.json", "can be read", "not the metadata"),
        strict=True,
    ):
        assert re.search(why, reason)
    with pytest.raises(ScopeError, match=r"of 1 clip folders none can be learned from: .* 6 frames where 9 are needed"):
        FolderSource([short], height=32, width=48, latents=3)
