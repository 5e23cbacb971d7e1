"""Where clips come from: the arena by step, and recorded folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.train.data.sources import ArenaSource, FolderSource, clip_folders, frames_of, read_clip
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
    clip = read_clip(make_clip(tmp_path / "a", 12, 40, rows=9), 32, 32)
    assert clip.frames.shape == (1, 12, 32, 32, 3)
    assert clip.rows.shape == (1, 12, 10)
    assert np.array_equal(clip.rows[0, 8], clip.rows[0, 11])
    assert abs(int(clip.frames[0, 0].mean()) - 40) < 6


def test_folder_source_draws_stretches_with_their_rows(tmp_path: Path) -> None:
    folders = [make_clip(tmp_path / name, 20, brightness) for name, brightness in (("a", 30), ("b", 220))]
    make_clip(tmp_path / "c.partial", 20, 100)
    assert clip_folders(tmp_path) == folders
    source = FolderSource(folders, height=32, width=48)
    one, same = source.clips(6, 3, "world", 1), source.clips(6, 3, "world", 1)
    assert np.array_equal(one.frames, same.frames)
    assert one.frames.shape == (6, 9, 32, 48, 3)
    steps = np.diff(one.rows[:, :, 8], axis=1)
    assert np.allclose(steps, 2 / 19, atol=1e-5)
    assert len({float(rows[0, 8]) for rows in one.rows}) > 1


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="no clip folder"):
        clip_folders(tmp_path)
    folder = make_clip(tmp_path / "a", 6, 30)
    with pytest.raises(ScopeError, match="6 frames where 9 are needed"):
        FolderSource([folder], height=32, width=48).clips(1, 3, "world", 0)
    (folder / "metadata.json").write_text('{"fps": 30}')
    with pytest.raises(ScopeError, match="fps 30"):
        FolderSource([folder], height=32, width=48)
    (folder / "metadata.json").unlink()
    with pytest.raises(ScopeError, match=r"no metadata\.json"):
        FolderSource([folder], height=32, width=48)


def test_no_video_is_damaged_video(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "a", 6, 30)
    (folder / "video.mp4").write_bytes(b"not a video")
    with pytest.raises(ScopeError, match="cannot be decoded"):
        FolderSource([folder], height=32, width=48).clips(1, 2, "world", 0)
