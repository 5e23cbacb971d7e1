"""The clip folder: what a recording is on disk, and how it is read back with its files checked against each other.

    video.mp4            constant frame rate, frame 0 is `first.png`, no HUD
    actions_raw.parquet  row i belongs to frame i; the chunk that shows frames 4k-3 .. 4k was given rows 4k-4 .. 4k-1,
                         so the last frame has no row of its own and repeats the one before
    metadata.json        everything needed to make the same frames again (`scope_play.recording.metadata`)
    first.png            frame 0 exactly as the model got it
    before.parquet       only in a recording begun during play: the rows given to the model until then,
    start.png            and the image that session started from

Beside the action columns the parquet file has, per frame: `frame`, `chunk` (which recorded chunk showed it, 0 for
the first image), `prompt_id`, `t_shown`, `frame_hash`; and per row `t_sampled`. Times are seconds of one clock.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scope_play.actions import ROW_WIDTH, read_actions, write_actions
from scope_play.errors import ScopeError
from scope_play.files import place, replacing
from scope_play.images import read_image
from scope_play.recording.metadata import METADATA, Metadata, read_metadata

VIDEO = "video.mp4"
ACTIONS = "actions_raw.parquet"
FIRST = "first.png"
BEFORE = "before.parquet"
START = "start.png"
PARTIAL = ".partial"


@dataclass(frozen=True)
class FrameColumns:
    """The extra columns of actions_raw.parquet, one value a frame each."""

    chunk: np.ndarray
    prompt_id: np.ndarray
    t_sampled: np.ndarray
    t_shown: np.ndarray
    frame_hash: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A clip folder in memory, but for its video. `rows` is float32 `(frames, 10)`."""

    path: Path
    metadata: Metadata
    rows: np.ndarray
    columns: FrameColumns

    @property
    def video(self) -> Path:
        return self.path / VIDEO

    def start_image(self) -> np.ndarray:
        """What the session started from: uint8 `(H, W, 3)`; the same as frame 0 unless `before` is set."""
        name = START if self.metadata.before else FIRST
        return _image_of_size(self.path / name, self.metadata.header.height, self.metadata.header.width)

    def rows_before(self) -> np.ndarray:
        """The rows given to the model before the recording began: float32 `(frames_per_chunk * before.chunks, 10)`."""
        before, per_chunk = self.metadata.before, self.metadata.header.frames_per_chunk
        if before is None:
            return np.empty((0, ROW_WIDTH), np.float32)
        rows = read_actions(self.path / BEFORE)
        if len(rows) != before.chunks * per_chunk:
            raise ScopeError(
                f"{self.path / BEFORE} has {len(rows)} rows but {METADATA} says {before.chunks} chunks of {per_chunk}; "
                "restore the file that was changed."
            )
        return rows

    def segments(self) -> list[range]:
        """The frames of the video in unbroken runs: a rewind starts a new one."""
        total = self.metadata.video_frames
        cuts = sorted({branch.frame for branch in self.metadata.branches if 0 < branch.frame < total})
        return [range(a, b) for a, b in zip([0, *cuts], [*cuts, total], strict=True)]


def frame_hash(frame: np.ndarray) -> str:
    """BLAKE2b-128 of a uint8 frame's bytes, rows first, as 32 hex digits."""
    return hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).hexdigest()


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 `(H, W, 3)`, losslessly and fast rather than small."""
    from PIL import Image

    with replacing(path) as beside:
        Image.fromarray(image).save(beside, compress_level=1)


def write_columns(path: Path, rows: np.ndarray, columns: FrameColumns) -> None:
    """Writes `actions_raw.parquet`."""
    extra: dict[str, Sequence[Any] | np.ndarray] = {
        "frame": np.arange(len(rows), dtype=np.int32),
        "chunk": columns.chunk.astype(np.int32),
        "t_sampled": columns.t_sampled.astype(np.float64),
        "t_shown": columns.t_shown.astype(np.float64),
        "prompt_id": columns.prompt_id.astype(np.int32),
        "frame_hash": list(columns.frame_hash),
    }
    write_actions(path, rows, extra)


def is_clip(path: Path) -> bool:
    """Whether `path` is a clip folder of this app, as opposed to a bare action file."""
    return (path / METADATA).is_file()


def find_clips(paths: Sequence[Path]) -> list[Path]:
    """Clip folders among `paths` and directly inside them, by name; unfinished recordings inside are passed over.

    Raises:
        ScopeError: one of the paths neither is nor holds a clip folder.
    """
    found: list[Path] = []
    for path in map(place, paths):
        if is_clip(path) or path.name.endswith(PARTIAL):
            found.append(path)
            continue
        inside = [clip for clip in sorted(path.glob("*")) if is_clip(clip) and not clip.name.endswith(PARTIAL)]
        if not inside:
            raise ScopeError(f"{path} neither is a clip folder nor holds one; give recordings made with --record.")
        found += inside
    return found


def read_clip(path: str | Path, *, check_video: bool = True) -> Clip:
    """Reads a clip folder and checks that its files agree with each other.

    Raises:
        ScopeError: a file is missing or damaged, a field of metadata.json is missing or wrong, or the numbers of
            frames, rows and chunks disagree.
    """
    path = place(path)
    if not path.is_dir():
        raise ScopeError(f"There is no clip folder {path}; give the path of a recording.")
    if path.name.endswith(PARTIAL):
        raise ScopeError(f"The recording {path} was interrupted; run `scope-play recover {path}` first.")
    metadata = read_metadata(path / METADATA)
    rows = read_actions(path / ACTIONS)
    columns = _read_columns(path / ACTIONS)
    clip = Clip(path, metadata, rows, columns)
    _check_agreement(clip)
    if check_video:
        from scope_play.recording.video import count_frames

        found = count_frames(clip.video) if clip.video.is_file() else 0
        if found != metadata.video_frames:
            raise ScopeError(
                f"{clip.video} has {found} frames but {METADATA} says {metadata.video_frames}; "
                f"make it again with `scope-play replay {path} --out {VIDEO}`."
            )
    return clip


def _image_of_size(path: Path, height: int, width: int) -> np.ndarray:
    image = read_image(path)
    if image.shape != (height, width, 3):
        raise ScopeError(
            f"{path} is {image.shape[0]}x{image.shape[1]} but {METADATA} says {height}x{width}; "
            "restore the file that was changed."
        )
    return image


def _read_columns(path: Path) -> FrameColumns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [item.name for item in dataclasses.fields(FrameColumns)]
    try:
        found = pq.read_schema(path).names
        for name in names:
            if name not in found:
                raise ScopeError(f"{path} has no column {name}; it is not the action file of a recording.")
        table = pq.read_table(path, columns=names)
        chunk, prompt_id, t_sampled, t_shown, hashes = (table.column(name).to_pylist() for name in names)
        return FrameColumns(
            chunk=np.asarray(chunk, np.int64),
            prompt_id=np.asarray(prompt_id, np.int64),
            t_sampled=np.asarray(t_sampled, np.float64),
            t_shown=np.asarray(t_shown, np.float64),
            frame_hash=tuple(str(value) for value in hashes),
        )
    except ScopeError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OSError) as error:
        raise ScopeError(f"{path} has a damaged column ({error}); restore the file from a copy.") from error


def _check_agreement(clip: Clip) -> None:
    meta, header = clip.metadata, clip.metadata.header
    where, per_chunk = clip.path / METADATA, clip.metadata.header.frames_per_chunk
    problem = None
    if per_chunk < 1 or header.fps < 1:
        problem = f"header.frames_per_chunk {per_chunk} and header.fps {header.fps}, which must be at least 1"
    elif len(clip.rows) != meta.frames:
        problem = f"{meta.frames} frames, but {ACTIONS} has {len(clip.rows)} rows"
    elif (meta.frames - 1) % per_chunk:
        problem = f"{meta.frames} frames, which is not one image and whole chunks of {per_chunk}"
    elif not 1 <= meta.video_frames <= meta.frames:
        problem = f"{meta.video_frames} video_frames for {meta.frames} frames"
    elif meta.video_frames < meta.frames and meta.ending.video_problem is None:
        problem = f"{meta.video_frames} video_frames for {meta.frames} frames and no ending.video_problem"
    elif not np.array_equal(clip.columns.chunk, chunk_of_frame(meta.frames, per_chunk)):
        problem = f"{meta.frames} frames, whose chunk numbers in {ACTIONS} do not follow one another"
    else:
        known = {prompt.id for prompt in meta.prompts}
        earliest = -meta.before.chunks if meta.before else 0
        for branch in meta.branches:
            chunk, beside = divmod(branch.frame - 1, per_chunk)
            if beside or not earliest <= branch.source_chunk <= chunk:
                problem = f"a branch at frame {branch.frame} to chunk {branch.source_chunk}, which is not before it"
        unknown = set(clip.columns.prompt_id.tolist()) - known
        if unknown:
            problem = f"no prompt with id {min(unknown)}, which {ACTIONS} uses"
    if problem:
        raise ScopeError(f"{where} has {problem}; restore the file that was changed.")


def chunk_of_frame(frames: int, per_chunk: int) -> np.ndarray:
    """Which chunk shows each frame: 0, then 1 `per_chunk` times, and so on: int64 `(frames,)`."""
    return (np.arange(frames) + per_chunk - 1) // per_chunk
