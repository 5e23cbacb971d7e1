"""The video file: exact frame counts and times, odd sizes, and a file that is whole up to its last fragment."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.errors import ScopeError
from scope_play.recording.video import Encoding, Mp4Writer, copy_frames, count_frames, read_frames, whole_bytes


def picture(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 3 + number) % 256, (y * 4) % 256, np.full_like(x, number % 256)], axis=-1).astype(np.uint8)


def write(path: Path, frames: int, height: int = 48, width: int = 80) -> Path:
    writer = Mp4Writer(path, height, width, 20)
    for number in range(frames):
        writer.write(picture(number, height, width))
    writer.close()
    return path


@pytest.mark.parametrize(("height", "width"), [(48, 80), (47, 80), (48, 81), (33, 17)])
def test_every_frame_is_there_at_its_exact_time_and_size(tmp_path: Path, height: int, width: int) -> None:
    source = write(tmp_path / "a.mp4", 45, height, width)
    assert copy_frames(source, tmp_path / "b.mp4") == 45
    for path in (source, tmp_path / "b.mp4"):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 20) for i in range(45)]
            assert {(frame.height, frame.width) for frame in frames} == {(height, width)}
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == 45
        assert stream.average_rate == 20
        assert stream.duration * stream.time_base == Fraction(45, 20)


def test_the_picture_survives_encoding(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :80]
    smooth = np.stack([x * 3, y * 5, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    writer = Mp4Writer(tmp_path / "a.mp4", 48, 80, 20, Encoding(crf=10))
    for _ in range(3):
        writer.write(smooth)
    writer.close()
    for frame in read_frames(tmp_path / "a.mp4"):
        assert np.abs(frame.astype(int) - smooth).mean() < 2.0


def test_a_file_cut_anywhere_keeps_all_but_the_last_fragment(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", 60).read_bytes()
    cut = tmp_path / "cut.mp4"

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, len(whole)))
    def check(size: int) -> None:
        cut.write_bytes(whole[:size])
        usable = whole_bytes(cut)
        assert usable <= size
        frames = count_frames(cut)
        assert frames % 5 == 0  # a fragment is a quarter of a second
        (tmp_path / "copy.mp4").unlink(missing_ok=True)
        assert copy_frames(cut, tmp_path / "copy.mp4") == frames
        if frames:
            assert sum(1 for _ in read_frames(tmp_path / "copy.mp4")) == frames
            assert whole_bytes(tmp_path / "copy.mp4") == (tmp_path / "copy.mp4").stat().st_size

    check()


def test_fragments_reach_the_file_while_recording(tmp_path: Path) -> None:
    writer = Mp4Writer(tmp_path / "a.mp4", 48, 80, 20)
    for number in range(40):
        writer.write(picture(number))
        assert writer.frames - count_frames(tmp_path / "a.mp4") <= 5
    writer.close()
    assert count_frames(tmp_path / "a.mp4") == 40


def test_a_copy_can_be_cut_to_any_number_of_frames(tmp_path: Path) -> None:
    source = write(tmp_path / "a.mp4", 45)
    originals = list(read_frames(source))
    for frames in (1, 4, 21, 44):
        assert copy_frames(source, tmp_path / "b.mp4", frames) == frames
        copies = list(read_frames(tmp_path / "b.mp4"))
        assert len(copies) == frames
        assert np.array_equal(copies[-1], originals[frames - 1])


def test_no_video_is_no_frames(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    for name in ("empty.mp4", "noise.mp4", "absent.mp4"):
        assert copy_frames(tmp_path / name, tmp_path / "b.mp4") == 0
        assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(ScopeError, match=r"noise\.mp4 is not a video"):
        list(read_frames(tmp_path / "noise.mp4"))


def test_a_wrong_frame_is_refused(tmp_path: Path) -> None:
    writer = Mp4Writer(tmp_path / "a.mp4", 48, 80, 20)
    with pytest.raises(ValueError, match=r"\(48, 80, 3\)"):
        writer.write(np.zeros((48, 81, 3), np.uint8))
    writer.close()
