"""Clips of the data set that the model was trained on, as this app's own commands take them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scope_play import cli
from scope_play.actions import read_actions
from scope_play.errors import ScopeError
from scope_play.recording.crossfps import is_crossfps, read_crossfps
from scope_play.recording.video import count_frames
from tests.helpers.clip_folder import make_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = make_clip(tmp_path / "clip_000017", 21, 60)
    (folder / "metadata.json").write_text(json.dumps({"fps": 20, "caption": "a hangar at night", "game": "x"}))
    return folder


@pytest.mark.parametrize("older", [False, True])
def test_it_is_exported_beside_another_with_its_caption_as_the_task(tmp_path: Path, clip: Path, older: bool) -> None:
    if older:
        (clip / "actions_raw.parquet").rename(clip / "actions.parquet")
    bare = make_clip(tmp_path / "clip_000018", 13, 90, rows=12)
    assert cli.main(["export", str(clip), str(bare), "--out", str(tmp_path / "set"), "--task", "play on"]) == 0
    data = pq.read_table(next((tmp_path / "set/data").rglob("*.parquet"))).to_pydict()
    assert data["episode_index"] == [0] * 21 + [1] * 13
    tasks = pq.read_table(tmp_path / "set/meta/tasks.parquet").to_pydict()
    (texts,) = (values for name, values in tasks.items() if name != "task_index")
    frames = [data["task_index"].count(number) for number in tasks["task_index"]]
    assert dict(zip(texts, frames, strict=True)) == {"a hangar at night": 21, "play on": 13}
    given = read_actions(clip / ("actions.parquet" if older else "actions_raw.parquet"))
    assert np.allclose(np.array(data["action"][:21]), given)


def test_it_is_replayed_from_its_own_first_frame(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "again.mp4"
    assert cli.main(["replay", str(clip), "--model", "nano-96x160", "--out", str(out)]) == 0
    assert count_frames(out) == 21


def test_what_is_wrong_with_it_is_said(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_crossfps(clip)
    assert cli.main(["replay", str(clip), "--check"]) == 2
    assert "no frame hashes" in capsys.readouterr().err
    few = make_clip(tmp_path / "few", 40, 60, rows=5)
    with pytest.raises(ScopeError, match="5 rows for 40 frames"):
        read_crossfps(few)
    fast = make_clip(tmp_path / "fast", 40, 60, rate=60)
    with pytest.raises(ScopeError, match="60 frames a second"):
        read_crossfps(fast)
    (clip / "metadata.json").write_text('{"schema": 9}')
    assert not is_crossfps(clip)
    assert cli.main(["export", str(clip), "--out", str(tmp_path / "set")]) == 2
    assert "schema 9" in capsys.readouterr().err
