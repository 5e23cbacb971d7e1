"""Recordings as a LeRobot dataset, format version 3.0 (huggingface/lerobot, `LeRobotDataset`).

    meta/info.json                              features, counts, path patterns
    meta/stats.json                             statistics of every feature
    meta/tasks.parquet                          the tasks, by text
    meta/episodes/chunk-000/file-000.parquet    where each episode's rows and frames are, and its statistics
    data/chunk-000/file-000.parquet             one row a frame
    videos/<key>/chunk-000/file-000.mp4         one file an episode, copied without encoding anew
    README.md                                   the dataset card, by which `datasets.load_dataset` finds the rows
    meta/sources.json                           not part of the format: metadata.json of each clip

An episode is an unbroken run of play: a clip with rewinds gives one more episode for each. The task is the prompt, or
`task` where there was none. The state is what the player held before: the action of the frame before, at first zeros.

Each episode has a video of its own because readers add the time at which it begins in its file to that of a frame, and
compare the sum, as float32, to 0.1 ms: beyond 1,024 s such sums are wrong by more.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scope_play.actions import COLUMNS
from scope_play.errors import ScopeError
from scope_play.files import for_people, require_free
from scope_play.recording.clip import Clip, read_clip
from scope_play.recording.crossfps import is_crossfps, read_crossfps
from scope_play.recording.lerobot_stats import Stats, as_lists, column_stats, merged, picture_stats
from scope_play.recording.video import frames_at, pixel_format
from scope_play.records import to_json

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "v3.0"
IMAGES, STATE = "observation.images.screen", "observation.state"
CHUNK_FILES = 1000
DATA_MB, VIDEO_MB = 100, 200
ROWS_PER_FILE = 1_000_000
"""At about 80 bytes a row, below the format's 100 MB a data file."""

EPISODE_FRAMES = 24_000
"""20 minutes: what a policy's loader can still go through in one piece."""

CARD = """---
task_categories: [robotics]
tags: [LeRobot, scope-play]
configs:
- config_name: default
  data_files: data/*/*.parquet
---

Play recorded by scope-play, {episodes} episodes at {fps} frames/s, as a LeRobot dataset ({version}).
The world in the videos is made by a neural network; meta/sources.json says by which.
"""

STATS_FRAMES = 50
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"


@dataclass(frozen=True)
class Episode:
    """Some frames of a clip; its rows begin at `first_row`, in data file `data`."""

    clip: Clip
    frames: range
    first_row: int
    data: int


def export(clips: Sequence[Path], out: Path, task: str, report: Callable[[str], None] = print) -> int:
    """Writes clip folders as one dataset to `out`, which must not exist. Returns the number of episodes.

    `report` is told of clips whose video is shorter than their actions: what has no picture is left out.

    Raises:
        ScopeError: a clip is damaged or differs from the first in size or rate, `out` exists, or it cannot be written.
    """
    require_free(out, mend="choose a new folder for the dataset")
    if not out.absolute().parent.is_dir():
        raise ScopeError(f"{out} cannot be made because {out.parent} is not a folder; create it first.")
    read = [read_crossfps(path) if is_crossfps(path) else read_clip(path) for path in clips]
    _check_alike(read)
    for clip in read:
        shown, frames, why = clip.metadata.video_frames, clip.metadata.frames, clip.metadata.ending.video_problem
        if shown < frames:
            report(f"{for_people(clip.path)}: only its first {shown} of {frames} frames have video ({why})")
    episodes = plan(read)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as making:
            _write(Path(making) / "dataset", read, episodes, task)
            (Path(making) / "dataset").rename(out)
    except OSError as error:
        raise ScopeError(
            f"{out} could not be written ({error.strerror or error}); free some space or choose another folder."
        ) from error
    return len(episodes)


def plan(clips: Sequence[Clip]) -> list[Episode]:
    """Which frames of which clip make which episode, and where its rows go."""
    episodes: list[Episode] = []
    row = data = rows_in_file = 0
    for clip in clips:
        for segment in clip.segments():
            for start in range(segment.start, segment.stop, EPISODE_FRAMES):
                frames = segment[start - segment.start : start - segment.start + EPISODE_FRAMES]
                if rows_in_file and rows_in_file + len(frames) > ROWS_PER_FILE:
                    data, rows_in_file = data + 1, 0
                episodes.append(Episode(clip, frames, row, data))
                row += len(frames)
                rows_in_file += len(frames)
    return episodes


def _check_alike(clips: Sequence[Clip]) -> None:
    first = clips[0].metadata.header
    for clip in clips:
        header = clip.metadata.header
        if (header.fps, header.height, header.width) != (first.fps, first.height, first.width):
            raise ScopeError(
                f"{clip.path} is {header.height}x{header.width} at {header.fps} frames/s but {clips[0].path} is "
                f"{first.height}x{first.width} at {first.fps}; export them as two datasets."
            )


def _write(root: Path, clips: Sequence[Clip], episodes: Sequence[Episode], task: str) -> None:
    for number, episode in enumerate(episodes):
        target = root / VIDEO_PATH.format(video_key=IMAGES, **_place(number))
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(episode.frames) == episode.clip.metadata.video_frames:
            shutil.copyfile(episode.clip.video, target)
        else:
            copy_part(episode.clip.video, target, episode.frames, episode.clip.metadata.header.fps)
    tasks = list(dict.fromkeys(text for episode in episodes for text in _tasks(episode, task)))
    columns = [_columns(number, episode, tasks, task) for number, episode in enumerate(episodes)]
    stats = [_stats(episode, data) for episode, data in zip(episodes, columns, strict=True)]
    _write_data(root, episodes, columns)
    _write_episodes(root, episodes, stats, task)
    _write_tasks(root, tasks)
    total = {key: as_lists(merged([one[key] for one in stats])) for key in stats[0]}
    _write_json(root / "meta/stats.json", total)
    _write_json(root / "meta/info.json", _info(clips[0], episodes, len(tasks)))
    card = CARD.format(episodes=len(episodes), fps=clips[0].metadata.header.fps, version=VERSION)
    (root / "README.md").write_text(card, encoding="utf-8")
    _write_json(root / "meta/sources.json", [{"clip": c.path.name, **to_json(c.metadata)} for c in clips])


def copy_part(source: Path, target: Path, frames: range, fps: int) -> None:
    """Copies some frames of a video into an mp4 that begins with them, without encoding anew.

    The frames from the keyframe before are copied too, as the first ones are decoded with their help, at times before
    zero: the mp4's edit list hides them.

    Raises:
        ScopeError: `source` is damaged. OSError: `target` cannot be written.
    """
    import av

    try:
        with (
            av.open(str(source.absolute())) as old,
            target.open("wb") as made,
            av.open(made, "w", format="mp4", options={"avoid_negative_ts": "disabled"}) as new,
        ):
            stream = old.streams.video[0]
            copy = new.add_stream_from_template(stream)
            base = copy.time_base = stream.time_base or Fraction(1, fps)
            begin = round(frames.start / fps / base)
            old.seek(begin, stream=stream)
            for packet in old.demux(stream):
                if packet.pts is None or packet.dts is None or round(packet.pts * base * fps) >= frames.stop:
                    break
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copy
                new.mux(packet)
    except (av.FFmpegError, IndexError) as error:
        raise ScopeError(f"{source} is not a video that can be cut ({error}); record it again.") from error


def _tasks(episode: Episode, default: str) -> list[str]:
    """The task of each frame of an episode."""
    texts = {prompt.id: prompt.text or default for prompt in episode.clip.metadata.prompts}
    return [texts[int(number)] for number in episode.clip.columns.prompt_id[list(episode.frames)]]


def _columns(number: int, episode: Episode, tasks: Sequence[str], default: str) -> dict[str, np.ndarray]:
    """The data columns of one episode: float32 `(N, 10)` for action and state, `(N,)` for the others."""
    frames = np.arange(len(episode.frames))
    action = episode.clip.rows[episode.frames.start : episode.frames.stop]
    index = {text: i for i, text in enumerate(tasks)}
    return {
        STATE: np.concatenate([np.zeros_like(action[:1]), action[:-1]]),
        "action": action,
        "timestamp": (frames / episode.clip.metadata.header.fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(len(frames), number),
        "index": episode.first_row + frames,
        "task_index": np.array([index[text] for text in _tasks(episode, default)]),
    }


def _stats(episode: Episode, columns: dict[str, np.ndarray]) -> dict[str, Stats]:
    stats = {name: column_stats(values) for name, values in columns.items()}
    places = np.unique(np.linspace(episode.frames.start, episode.frames.stop - 1, STATS_FRAMES).astype(int))
    return {IMAGES: picture_stats(np.stack(list(frames_at(episode.clip.video, places.tolist()))))} | stats


def _write_data(root: Path, episodes: Sequence[Episode], columns: Sequence[dict[str, np.ndarray]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for data in range(episodes[-1].data + 1):
        path = root / DATA_PATH.format(**_place(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [part for episode, part in zip(episodes, columns, strict=True) if episode.data == data]
        with pq.ParquetWriter(path, _data_schema()) as writer:
            for part in parts:  # a row group an episode: a reader can skip the others
                arrays = [_array(part[field.name], field.type) for field in _data_schema()]
                writer.write_table(pa.table(arrays, schema=_data_schema()))


def _data_schema() -> pa.Schema:
    import pyarrow as pa

    integers = ("frame_index", "episode_index", "index", "task_index")
    return pa.schema(
        [
            *((name, pa.list_(pa.float32(), len(COLUMNS))) for name in (STATE, "action")),
            ("timestamp", pa.float32()),
            *((name, pa.int64()) for name in integers),
        ]
    )


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values, kind)


def _write_episodes(root: Path, episodes: Sequence[Episode], stats: Sequence[dict[str, Stats]], task: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for number, (episode, own) in enumerate(zip(episodes, stats, strict=True)):
        fps, length = episode.clip.metadata.header.fps, len(episode.frames)
        row = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(_tasks(episode, task))),
            "length": length,
            "dataset_from_index": episode.first_row,
            "dataset_to_index": episode.first_row + length,
            f"videos/{IMAGES}/from_timestamp": 0.0,
            f"videos/{IMAGES}/to_timestamp": length / fps,
        }
        for prefix, place in (("data", episode.data), (f"videos/{IMAGES}", number), ("meta/episodes", 0)):
            row |= {f"{prefix}/{name}": value for name, value in _place(place).items()}
        for key, values in own.items():
            row |= {f"stats/{key}/{name}": value for name, value in as_lists(values).items()}
        rows.append(row)
    path = root / EPISODES_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """The format keeps the texts as the index of a pandas frame; this is how pandas stores such an index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = "__index_level_0__"
    described = [("task_index", "task_index", "int64", "int64"), (None, index, "unicode", "object")]
    keys = ("name", "field_name", "pandas_type", "numpy_type")
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [dict(zip(keys, one, strict=True)) | {"metadata": None} for one in described],
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), root / "meta/tasks.parquet")


def _info(clip: Clip, episodes: Sequence[Episode], tasks: int) -> dict[str, Any]:
    header = clip.metadata.header
    scalars = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    video = {
        "video.height": header.height,
        "video.width": header.width,
        "video.codec": "h264",
        "video.pix_fmt": pixel_format(header.height, header.width),
        "video.is_depth_map": False,
        "video.fps": header.fps,
        "video.channels": 3,
        "has_audio": False,
    }
    return {
        "codebase_version": VERSION,
        "robot_type": "xbox_controller",
        "total_episodes": len(episodes),
        "total_frames": sum(len(episode.frames) for episode in episodes),
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": header.fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {
            IMAGES: {
                "dtype": "video",
                "shape": [header.height, header.width, 3],
                "names": ["height", "width", "channels"],
                "info": video,
            },
            **{
                name: {"dtype": "float32", "shape": [len(COLUMNS)], "names": list(COLUMNS)}
                for name in (STATE, "action")
            },
            **{name: {"dtype": kind, "shape": [1], "names": None} for name, kind in scalars.items()},
        },
    }


def _place(number: int) -> dict[str, int]:
    """The chunk and file that a running file number stands for."""
    chunk, file = divmod(number, CHUNK_FILES)
    return {"chunk_index": chunk, "file_index": file}


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
