"""What can be encoded: unbroken stretches of recorded video with a row a frame, from wherever they lie.

Clip folders of this app and of CrossFPS, tars of the latter (read as they stream past, by today's names and the older
ones), and LeRobot datasets of version 3. Rewinds and changes of prompt begin a new stretch.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from scope_play.actions import FPS, check_rows
from scope_play.errors import ScopeError
from scope_play.files import for_people
from scope_play.recording.clip import ACTIONS, METADATA, VIDEO, Clip, find_clips, read_clip
from scope_play.recording.crossfps import OLDER_ACTIONS, game_of, is_crossfps, read_crossfps
from scope_play.recording.video import frames_at_rate

SHORTEST = 5
"""Frames of the shortest stretch that says anything: the start image and one latent more."""


@dataclass(frozen=True)
class Item:
    """Frames `first` to `end` - 1 of a video, with rows float32 (end - first, 10) and a prompt.

    name: of the recording, the same in every run. game: what it is a recording of; a game is wholly in one split.
    """

    name: str
    game: str
    video: Path
    first: int
    end: int
    rows: np.ndarray
    caption: str


@dataclass(frozen=True)
class Found:
    """A recording: its items, or why there are none."""

    name: str
    items: tuple[Item, ...] = ()
    why: str = ""


def find_items(source: Path) -> Iterator[Found]:
    """All recordings of a source, in an order that does not change. Raises ScopeError for what is none of them."""
    if source.is_file() and tarfile.is_tarfile(source):
        yield from _in_tar(source)
    elif (source / "meta/info.json").is_file():
        yield from _in_lerobot(source)
    elif source.is_dir():
        for folder in find_clips([source]):
            yield _found(folder.name, partial(_of_clip, folder))
    else:
        raise ScopeError(
            f"{for_people(source)} is no clip folder, tar of clips or LeRobot dataset; give where recordings are"
        )


def _found(name: str, read: Callable[[], list[Item]]) -> Found:
    try:
        items = tuple(item for item in read() if item.end - item.first >= SHORTEST)
    except ScopeError as error:
        return Found(name, why=str(error))
    return Found(name, items, "" if items else f"{name} has no stretch of {SHORTEST} frames; leave it out")


def _of_clip(folder: Path, name: str = "") -> list[Item]:
    foreign = is_crossfps(folder)
    clip = read_crossfps(folder) if foreign else read_clip(folder)
    if not foreign:
        frames_at_rate(clip.video, FPS)
    name = name or clip.path.name
    game = game_of(folder) or name
    return [Item(name, game, clip.video, a, b, clip.rows[a:b], caption) for a, b, caption in _stretches(clip)]


def _stretches(clip: Clip) -> Iterator[tuple[int, int, str]]:
    texts = {prompt.id: prompt.text or "" for prompt in clip.metadata.prompts}
    ids = clip.columns.prompt_id
    for segment in clip.segments():
        for number, group in groupby(segment, key=lambda frame: int(ids[frame])):
            frames = list(group)
            yield frames[0], frames[-1] + 1, texts[number]


def _in_tar(path: Path) -> Iterator[Found]:
    """Members that share their folder, or what their name has before the first dot, are one clip. One at a time is laid
    down to be read, until the next is asked for."""
    with tarfile.open(path, "r|*") as tar, tempfile.TemporaryDirectory(prefix="clip-") as made:
        members = ((_clip_of(member.name), member) for member in tar if member.isfile() and _part_of(member.name))
        for name, group in groupby(members, key=lambda pair: pair[0]):
            folder = Path(made) / "clip"
            folder.mkdir()
            for _, member in group:
                taken, part = tar.extractfile(member), _part_of(member.name)
                if taken is not None and part is not None:
                    with (folder / part).open("wb") as file:
                        shutil.copyfileobj(taken, file)
            yield _found(f"{path.name}/{name}", partial(_of_tar_clip, folder, f"{path.name}/{name}"))
            shutil.rmtree(folder)


def _of_tar_clip(folder: Path, name: str) -> list[Item]:
    if not is_crossfps(folder):
        raise ScopeError(f"{name} is no clip: it needs {VIDEO} and {ACTIONS}; get the tar again, or leave it out")
    return _of_clip(folder, name)


def _clip_of(member: str) -> str:
    path = Path(member)
    return path.parent.name if path.name == _part_of(member) and path.parent.name else path.name.partition(".")[0]


def _part_of(member: str) -> str | None:
    """Which file of a clip a member is: `17/video.mp4`, or `17.video.mp4`, `17.mp4`, `17.json`."""
    name = Path(member).name
    known = (VIDEO, ACTIONS, OLDER_ACTIONS, METADATA)
    ending = name if name in known else name.partition(".")[2]
    return {"mp4": VIDEO, "json": METADATA}.get(ending, ending if ending in known else None)


def _in_lerobot(root: Path) -> Iterator[Found]:
    import pyarrow.parquet as pq

    info = json.loads((root / "meta/info.json").read_text(encoding="utf-8"))
    keys = [key for key, feature in info["features"].items() if feature.get("dtype") == "video"]
    if info.get("fps") != FPS or len(keys) != 1:
        raise ScopeError(
            f"{for_people(root)} has {info.get('fps')} frames a second and {len(keys)} videos; one of 20 is needed"
        )
    data: dict[Path, dict[str, np.ndarray]] = {}
    for file in sorted((root / "meta/episodes").rglob("*.parquet")):
        for episode in pq.read_table(file).to_pylist():
            yield _found(
                f"{root.name}/episode {episode['episode_index']}",
                partial(_of_episode, root, info, keys[0], episode, data),
            )


def _of_episode(root: Path, info: dict, key: str, episode: dict, data: dict[Path, dict[str, np.ndarray]]) -> list[Item]:
    import pyarrow.parquet as pq

    number, length = episode["episode_index"], episode["length"]
    place = {name: episode[f"data/{name}"] for name in ("chunk_index", "file_index")}
    table = root / info["data_path"].format(**place)
    if table not in data:
        data.clear()  # one file at a time: episodes follow each other
        read = pq.read_table(table, columns=["episode_index", "action"])
        data[table] = {
            "episode": read["episode_index"].to_numpy(),
            "action": np.array(read["action"].to_pylist(), np.float32),
        }
    rows = data[table]["action"][data[table]["episode"] == number]
    if rows.shape != (length, 10):
        raise ScopeError(f"{for_people(root)} has actions {rows.shape} in episode {number}; ({length}, 10) are needed")
    place = {name: episode[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
    video = root / info["video_path"].format(video_key=key, **place)
    first = round(episode[f"videos/{key}/from_timestamp"] * FPS)
    tasks = episode.get("tasks") or [""]
    check_rows(rows, f"{for_people(root)}, episode {number}")
    return [Item(f"{root.name}/episode {number}", root.name, video, first, first + length, rows, tasks[0])]
