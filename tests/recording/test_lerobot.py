"""The exported dataset, checked against the documented layout of LeRobot datasets 3.0 as a reader uses it."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scope_play import cli
from scope_play.actions import COLUMNS
from scope_play.recording import lerobot
from scope_play.recording.clip import read_clip
from scope_play.recording.lerobot_stats import column_stats, merged, picture_stats
from scope_play.recording.video import Encoding, frames_at, read_frames
from tests.helpers.fake_world import FakeWorld, fake_spec
from tests.helpers.recordings import record

KEY = "observation.images.screen"
STAT_NAMES = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
EPISODE_COLUMNS = {
    "episode_index": pa.int64(),
    "tasks": pa.list_(pa.string()),
    "length": pa.int64(),
    "dataset_from_index": pa.int64(),
    "dataset_to_index": pa.int64(),
    "data/chunk_index": pa.int64(),
    "data/file_index": pa.int64(),
    f"videos/{KEY}/chunk_index": pa.int64(),
    f"videos/{KEY}/file_index": pa.int64(),
    f"videos/{KEY}/from_timestamp": pa.float64(),
    f"videos/{KEY}/to_timestamp": pa.float64(),
    "meta/episodes/chunk_index": pa.int64(),
    "meta/episodes/file_index": pa.int64(),
}
DATA_TYPES = {"float32": pa.float32(), "int64": pa.int64()}


class Reader:
    """Reads a dataset the way the format's own reader does: everything is found through info.json and the episodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = json.loads((root / "meta/info.json").read_text())
        self.stats = json.loads((root / "meta/stats.json").read_text())
        self.episode_table = pa.concat_tables(
            pq.read_table(path) for path in sorted((root / "meta/episodes").glob("*/*.parquet"))
        )
        self.episodes = self.episode_table.to_pylist()
        self.data = pa.concat_tables(pq.read_table(path) for path in sorted((root / "data").glob("*/*.parquet")))
        tasks = pq.read_table(root / "meta/tasks.parquet")
        index = json.loads(tasks.schema.metadata[b"pandas"])["index_columns"][0]
        self.tasks = dict(zip(tasks["task_index"].to_pylist(), tasks[index].to_pylist(), strict=True))

    def item(self, index: int) -> dict[str, Any]:
        row = {name: self.data[name][index].as_py() for name in self.data.column_names}
        episode = self.episodes[row["episode_index"]]
        place = {k: episode[f"videos/{KEY}/{k}"] for k in ("chunk_index", "file_index")}
        video = self.root / self.info["video_path"].format(video_key=KEY, **place)
        wanted = episode[f"videos/{KEY}/from_timestamp"] + row["timestamp"]
        number = round(wanted * self.info["fps"])
        assert abs(number / self.info["fps"] - wanted) < 1e-4  # the tolerance of the format's reader
        return {**row, "task": self.tasks[row["task_index"]], KEY: next(frames_at(video, [number]))}


def check_layout(reader: Reader) -> None:
    info, data = reader.info, reader.data
    assert info["codebase_version"] == "v3.0"
    assert info["total_episodes"] == len(reader.episodes)
    assert info["total_frames"] == len(data)
    assert info["total_tasks"] == len(reader.tasks)
    assert info["splits"] == {"train": f"0:{len(reader.episodes)}"}
    assert {"chunks_size", "data_files_size_in_mb", "video_files_size_in_mb", "robot_type", "fps"} <= info.keys()
    assert set(data.column_names) == set(info["features"]) - {KEY}
    for name in data.column_names:
        feature = info["features"][name]
        kind = DATA_TYPES[feature["dtype"]]
        assert data.schema.field(name).type == (
            kind if feature["shape"] == [1] else pa.list_(kind, feature["shape"][0])
        )
        assert feature["names"] is None or len(feature["names"]) == feature["shape"][0]
    for name, kind in EPISODE_COLUMNS.items():
        found = reader.episode_table.schema.field(name).type
        assert found.value_type == kind.value_type if name == "tasks" else found == kind
    for key in info["features"]:
        assert set(reader.stats[key]) == STAT_NAMES
        assert {f"stats/{key}/{name}" for name in STAT_NAMES} <= set(reader.episode_table.column_names)
        shape = (3, 1, 1) if key == KEY else tuple(info["features"][key]["shape"])
        assert all(np.shape(v) == ((1,) if name == "count" else shape) for name, v in reader.stats[key].items())
    assert data["index"].to_pylist() == list(range(len(data)))
    at = 0
    for number, episode in enumerate(reader.episodes):
        rows = data.slice(at, episode["length"])
        assert (episode["episode_index"], episode["dataset_from_index"]) == (number, at)
        assert set(rows["episode_index"].to_pylist()) == {number}
        assert rows["frame_index"].to_pylist() == list(range(episode["length"]))
        assert np.allclose(rows["timestamp"].to_numpy(), np.arange(episode["length"]) / info["fps"])
        assert {reader.tasks[i] for i in rows["task_index"].to_pylist()} == set(episode["tasks"])
        at += episode["length"]
        assert episode["dataset_to_index"] == at
        span = episode[f"videos/{KEY}/to_timestamp"] - episode[f"videos/{KEY}/from_timestamp"]
        assert span == pytest.approx(episode["length"] / info["fps"])


def test_clips_become_episodes_with_their_own_frames_rows_and_tasks(tmp_path: Path) -> None:
    clips = [record(tmp_path / "clips", 6, prompts={3: "snow"}), record(tmp_path / "clips", 4, rewinds={2: 1})]
    out = tmp_path / "dataset"
    assert cli.main(["export", *map(str, clips), "--format", "lerobot", "--out", str(out)]) == 0
    reader = Reader(out)
    check_layout(reader)
    first, second = (read_clip(clip) for clip in clips)
    assert [episode["length"] for episode in reader.episodes] == [25, 9, 8]
    assert [episode["tasks"] for episode in reader.episodes] == [["a yard", "snow"], ["a yard"], ["a yard"]]
    expected_rows = np.concatenate([first.rows, second.rows])
    expected_frames = [*read_frames(first.video), *read_frames(second.video)]
    for index in (0, 1, 12, 13, 24, 25, 33, 34, 41):
        item = reader.item(index)
        assert np.array_equal(np.float32(item["action"]), expected_rows[index])
        held = np.zeros(10) if index in (0, 25, 34) else expected_rows[index - 1]
        assert np.array_equal(np.float32(item["observation.state"]), held)
        assert np.array_equal(item[KEY], expected_frames[index])
        assert item["task"] == ("snow" if 13 <= index <= 24 else "a yard")
    assert reader.info["features"]["action"] == reader.info["features"]["observation.state"]
    assert reader.info["features"]["action"]["names"] == list(COLUMNS)
    assert reader.info["features"][KEY]["shape"] == [48, 80, 3]
    assert reader.info["features"][KEY]["info"]["video.fps"] == 20
    sources = json.loads((out / "meta/sources.json").read_text())
    assert [source["clip"] for source in sources] == [clip.name for clip in clips]
    assert all(source["header"]["synthetic"] for source in sources)


def test_long_clips_and_many_rows_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "EPISODE_FRAMES", 10)
    monkeypatch.setattr(lerobot, "ROWS_PER_FILE", 25)
    monkeypatch.setattr(lerobot, "CHUNK_FILES", 2)
    clips = [record(tmp_path / "clips", 5) for _ in range(3)]
    lerobot.export(clips, tmp_path / "out", "play")
    reader = Reader(tmp_path / "out")
    check_layout(reader)
    assert [episode["length"] for episode in reader.episodes] == [10, 10, 1] * 3
    places = [(episode["data/chunk_index"], episode["data/file_index"]) for episode in reader.episodes]
    assert places == [(0, 0)] * 3 + [(0, 1)] * 3 + [(1, 0)] * 3
    videos = [(e[f"videos/{KEY}/chunk_index"], e[f"videos/{KEY}/file_index"]) for e in reader.episodes]
    assert videos == [divmod(number, 2) for number in range(9)]
    frames = list(read_frames(read_clip(clips[2]).video))
    assert np.array_equal(reader.item(62)[KEY], frames[20])


def test_a_clip_without_a_prompt_has_the_task_asked_for(tmp_path: Path) -> None:
    world = FakeWorld()
    clip = record(tmp_path, 1, world=world)
    data = json.loads((clip / "metadata.json").read_text())
    data["prompts"][0]["text"] = None
    (clip / "metadata.json").write_text(json.dumps(data))
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / "out"), "--task", "wander"]) == 0
    assert Reader(tmp_path / "out").tasks == {0: "wander"}


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.just(3)), elements=st.floats(-9, 9)), st.data())
def test_merged_statistics_are_those_of_the_whole(values: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    whole, both = column_stats(values), merged([column_stats(values[:cut]), column_stats(values[cut:])])
    for name in ("min", "max", "mean", "std", "count"):
        assert np.allclose(whole[name], both[name], atol=1e-9)


def test_pictures_are_measured_per_channel_between_0_and_1() -> None:
    pictures = np.zeros((4, 6, 8, 3), np.uint8)
    pictures[..., 0], pictures[:2, ..., 1] = 255, 51
    stats = picture_stats(pictures)
    assert stats["mean"].ravel().tolist() == pytest.approx([1.0, 0.1, 0.0])
    assert stats["count"].tolist() == [4]


def test_bad_requests_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = record(tmp_path / "clips", 1)
    other = record(tmp_path / "others", 1, world=FakeWorld(fake_spec(height=32)))
    (tmp_path / "empty").mkdir()
    damaged = record(tmp_path / "damaged", 2)
    os.truncate(damaged / "video.mp4", 500)
    out = str(tmp_path / "out")
    cases = {
        (str(clip), str(other), "--out", out): "32x80 at 20 frames/s but",
        (str(tmp_path / "empty"), "--out", out): "neither is a clip folder nor holds one",
        (str(damaged), "--out", out): "has 0 frames but metadata.json says 9",
        (str(clip), "--out", str(tmp_path / "empty")): "already exists",
        (str(clip), "--out", str(tmp_path / "no" / "out")): "is not a folder",
    }
    before = sorted(tmp_path.iterdir())
    for arguments, sentence in cases.items():
        assert cli.main(["export", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    write = pq.write_table

    def full(table: object, path: Path, *rest: object, **named: object) -> None:
        if Path(path).name == "tasks.parquet":
            raise OSError(28, "No space left")
        write(table, path, *rest, **named)

    monkeypatch.setattr(pq, "write_table", full)
    assert cli.main(["export", str(clip), "--out", out]) == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def worst_mismatch(begin: float, frames: np.ndarray, fps: int) -> float:
    """How far a reader's sums are from the times of the frames in the file, both float32 as in LeRobot's comparison."""
    asked = (begin + (frames / fps).astype(np.float32).astype(np.float64)).astype(np.float32)
    there = (begin + frames / fps).astype(np.float32)
    return float(np.abs(asked.astype(np.float64) - there).max())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 72_000), max_size=4, unique=True), st.sampled_from([20, 24, 30]))
def test_an_hour_with_rewinds_keeps_every_frame_within_the_readers_tolerance(cuts: list[int], fps: int) -> None:
    total = 3600 * fps
    marks = [0, *sorted(cut for cut in cuts if cut < total), total]
    segments = [range(a, b) for a, b in pairwise(marks)]
    clip: Any = SimpleNamespace(segments=lambda: segments)
    episodes = lerobot.plan([clip])
    assert sum(len(episode.frames) for episode in episodes) == total
    for episode in episodes:
        assert worst_mismatch(0.0, np.arange(len(episode.frames)), fps) < 1e-4


def test_one_file_for_a_whole_clip_would_miss_the_tolerance() -> None:
    assert worst_mismatch(20_001 / 20, np.arange(14_400), 20) > 1e-4


@pytest.mark.parametrize("part", [range(0, 7), range(5, 33), range(20, 41), range(23, 24), range(40, 41)])
def test_a_part_of_a_video_begins_with_its_first_frame(tmp_path: Path, part: range) -> None:
    clip = read_clip(record(tmp_path, 10))
    whole = list(read_frames(clip.video))
    lerobot.copy_part(clip.video, tmp_path / "part.mp4", part, 20)
    found = list(read_frames(tmp_path / "part.mp4"))
    assert np.array_equal(found, whole[part.start : part.stop])
    backwards = [next(frames_at(tmp_path / "part.mp4", [number])) for number in reversed(range(len(part)))]
    assert np.array_equal(backwards[::-1], found)


def test_every_episode_has_its_own_video_from_time_zero(tmp_path: Path) -> None:
    clip = record(tmp_path / "clips", 12, rewinds={5: 2, 9: 4})
    lerobot.export([clip], tmp_path / "out", "play")
    reader = Reader(tmp_path / "out")
    check_layout(reader)
    assert len(list((tmp_path / "out/videos").rglob("*.mp4"))) == len(reader.episodes) == 3
    assert {episode[f"videos/{KEY}/from_timestamp"] for episode in reader.episodes} == {0.0}
    frames = list(read_frames(read_clip(clip).video))
    assert all(np.array_equal(reader.item(index)[KEY], frames[index]) for index in range(len(frames)))


def test_the_card_names_the_data_files_as_yaml_front_matter(tmp_path: Path) -> None:
    lerobot.export([record(tmp_path / "clips", 1)], tmp_path / "out", "play")
    _, front, text = (tmp_path / "out/README.md").read_text().split("---\n")
    assert "configs:\n- config_name: default\n  data_files: data/*/*.parquet\n" in front
    assert list((tmp_path / "out").glob("data/*/*.parquet"))
    assert "1 episodes at 20 frames/s" in text


def test_what_has_no_video_is_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording whose encoder could not keep up has rows for more frames than pictures."""
    clip = record(tmp_path / "clips", 400, world=FakeWorld(), encoding=Encoding(preset="placebo"))
    shown, frames = (getattr(read_clip(clip).metadata, name) for name in ("video_frames", "frames"))
    assert shown < frames
    assert cli.main(["export", str(clip), "--out", str(tmp_path / "set")]) == 0
    assert f"only its first {shown} of {frames} frames have video" in capsys.readouterr().out
