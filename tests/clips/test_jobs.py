"""Which clips a folder of images makes: under which names, and with what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_play import cli
from scope_play.clips.jobs import folder_jobs
from scope_play.errors import ScopeError
from scope_play.sampling.clip import Sampling
from scope_play.sampling.stream_config import StreamConfig

NAMES = st.text("aB.", min_size=1, max_size=4).filter(lambda name: name.strip("."))
ENDINGS = st.sampled_from([".png", ".PNG", ".jpg", ".webp"])


@given(st.sets(st.tuples(NAMES, ENDINGS), min_size=1, max_size=8))
def test_no_two_clips_of_a_folder_share_a_name(
    tmp_path_factory: pytest.TempPathFactory, names: set[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("images")
    for name, ending in names:
        (folder / f"{name}{ending}").touch()
    jobs = folder_jobs(folder, None, None, folder / "out")
    places = [str(job.video).casefold() for job in jobs]
    assert len(jobs) == len(list(folder.iterdir()))
    if len({path.name.casefold() for path in folder.iterdir()}) == len(jobs):  # else the images themselves share one
        assert len(set(places)) == len(places)


def test_the_three_that_shared_one(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.png.png", "b.png"):
        (tmp_path / name).touch()
    names = [job.video.name for job in folder_jobs(tmp_path, None, None, tmp_path)]
    assert names == ["a.jpg.mp4", "a.png.mp4", "a.png.png.mp4", "b.mp4"]


def test_what_is_given_goes_before_what_lies_beside_an_image(tmp_path: Path) -> None:
    for name in ("a.png", "a.parquet", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("a harbour\n")
    given_rows = tmp_path / "mine.parquet"
    for actions, prompt, expected in (
        (None, None, [(tmp_path / "a.parquet", "a harbour"), (None, None)]),
        (given_rows, None, [(given_rows, "a harbour"), (given_rows, None)]),
        (None, "a hall", [(tmp_path / "a.parquet", "a hall"), (None, "a hall")]),
        (given_rows, "", [(given_rows, ""), (given_rows, "")]),
    ):
        jobs = folder_jobs(tmp_path, actions, prompt, tmp_path / "out")
        assert [(job.actions, job.prompt) for job in jobs] == expected


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "five", ""])
@pytest.mark.parametrize("option", ["--guidance", "--action-guidance", "--shift"])
def test_what_is_no_number_is_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["generate", f"{option}={value}", "--out", "x.mp4"])
    assert f"{value!r} is no number" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["guidance", "action_guidance", "shift"])
@pytest.mark.parametrize("kind", [Sampling, StreamConfig])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, -1.0])
def test_scales_that_leave_no_picture_are_refused(kind: type, name: str, value: float) -> None:
    with pytest.raises(ScopeError, match=rf"{name} is .*, but must lie between 0 and 1000"):
        kind(**{name: value})


@pytest.mark.parametrize("kind", [Sampling, StreamConfig])
def test_a_shift_of_0_is_refused(kind: type) -> None:
    with pytest.raises(ScopeError, match="shift"):
        kind(shift=0.0)
