"""From a `.partial` folder to a valid clip: the same steps end a recording cleanly and rescue an interrupted one."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scope_play.actions import ROW_WIDTH, fit_rows
from scope_play.errors import ScopeError
from scope_play.files import place, replacing, require_free
from scope_play.images import read_image
from scope_play.recording.clip import (
    ACTIONS,
    BEFORE,
    FIRST,
    PARTIAL,
    START,
    VIDEO,
    FrameColumns,
    chunk_of_frame,
    write_columns,
)
from scope_play.recording.journal import JOURNAL, Journal, read_journal
from scope_play.recording.metadata import METADATA, SCHEMA, Ending, Metadata, read_metadata, write_metadata
from scope_play.recording.ownership import Writer, owning
from scope_play.recording.video import Mp4Writer, copy_frames, count_frames


@dataclass(frozen=True)
class Finished:
    """A closed clip folder; `chunks_lost` were in the journal, but their frames had not reached the video."""

    path: Path
    frames: int
    chunks_lost: int


@dataclass(frozen=True)
class Extent:
    """How much of a recording is kept: `frames` rows, of which the first `video_frames` have a picture."""

    frames: int
    video_frames: int


def recover(partial: Path, into: Path | None = None) -> Finished:
    """Makes a valid clip of an interrupted recording, beside it or in the folder `into`.

    Frames and rows are cut to what both have, at whole chunks. Nothing of `partial` is removed before the clip is
    complete, and with `into` nothing at all. Running it again after an interruption goes on where it stopped.

    Raises:
        ScopeError: `partial` is no interrupted recording, is still being written, or the clip cannot be written.
    """
    partial, into = place(partial), into and place(into)
    if not partial.is_dir() or not partial.name.endswith(PARTIAL):
        raise ScopeError(f"{partial} is not an interrupted recording; give a folder whose name ends in {PARTIAL}.")
    only_named_so = not (partial / JOURNAL).exists() and (partial / METADATA).exists()
    writer = Writer() if only_named_so else read_journal(partial / JOURNAL).writer
    with owning(partial, writer, in_place=into is None):
        if not only_named_so:
            return finish(partial, Ending("interrupted", clean=False), into)
        metadata = read_metadata(partial / METADATA)  # only the last step, the renaming, was missed
        _remove_leftovers(partial)
        return Finished(_rename(partial), metadata.frames, 0)


def finish(partial: Path, ending: Ending, into: Path | None = None) -> Finished:
    """Turns the journal and the fragmented video of `partial` into a closed clip folder."""
    journal = read_journal(partial / JOURNAL)
    extent = common_extent(journal, count_frames(partial / VIDEO))
    if journal.video_stopped is not None:
        ending = Ending(ending.reason, ending.clean, journal.video_stopped[1])
    folder = partial if into is None else _copy_small_files(partial, into)
    _remove_leftovers(folder)
    _write_video(partial, folder, journal, extent.video_frames)
    rows, columns = columns_of(journal, extent.frames)
    write_columns(folder / ACTIONS, rows, columns)
    write_metadata(folder / METADATA, metadata_of(journal, extent, ending))
    if folder is partial:
        (partial / JOURNAL).unlink()
    chunks = (extent.frames - 1) // journal.header.frames_per_chunk
    return Finished(_rename(folder), extent.frames, len(journal.chunks) - chunks)


def common_extent(journal: Journal, video_frames: int) -> Extent:
    """What rows and video both have; all rows if the video is known to have stopped early."""
    per_chunk = journal.header.frames_per_chunk
    recorded = len(journal.chunks) * per_chunk + 1
    if journal.video_stopped is not None:
        return Extent(recorded, max(1, min(video_frames, journal.video_stopped[0], recorded)))
    in_video = (max(video_frames, 1) - 1) // per_chunk * per_chunk + 1
    frames = min(recorded, in_video)
    return Extent(frames, frames)


def columns_of(journal: Journal, frames: int) -> tuple[np.ndarray, FrameColumns]:
    """The rows, float32 `(frames, 10)`, and the other columns of the first `frames` frames."""
    per_chunk = journal.header.frames_per_chunk
    chunks = journal.chunks[: (frames - 1) // per_chunk]
    rows = np.concatenate([chunk.rows for chunk in chunks]) if chunks else np.zeros((1, ROW_WIDTH), np.float32)
    first_prompt = chunks[0].prompt_id if chunks else journal.header.prompt_id
    return fit_rows(rows, frames), FrameColumns(
        chunk=chunk_of_frame(frames, per_chunk),
        prompt_id=np.array([first_prompt, *np.repeat([chunk.prompt_id for chunk in chunks], per_chunk)], np.int64),
        t_sampled=np.concatenate([*(chunk.t_sampled for chunk in chunks), [np.nan]]),
        t_shown=np.concatenate([[np.nan], *(chunk.t_shown for chunk in chunks)]),
        frame_hash=(journal.first_hash, *(value for chunk in chunks for value in chunk.hashes)),
    )


def metadata_of(journal: Journal, extent: Extent, ending: Ending) -> Metadata:
    """What metadata.json says of the first `extent.frames` frames."""
    return Metadata(
        schema=SCHEMA,
        header=journal.header,
        frames=extent.frames,
        video_frames=extent.video_frames,
        prompts=tuple(prompt for prompt in journal.prompts if prompt.frame < extent.frames),
        branches=tuple(branch for branch in journal.branches if branch.frame < extent.frames),
        ending=ending,
        before=journal.before,
        events=tuple(event for event in journal.events if event["frame"] <= extent.frames),
    )


def _write_video(partial: Path, folder: Path, journal: Journal, frames: int) -> None:
    with replacing(folder / VIDEO) as beside:
        if copy_frames(partial / VIDEO, beside, frames) == 0:
            first = read_image(partial / FIRST)
            writer = Mp4Writer(beside, first.shape[0], first.shape[1], journal.header.fps)
            writer.write(first)
            writer.close()


def _copy_small_files(partial: Path, into: Path) -> Path:
    if not into.is_dir():
        raise ScopeError(f"{into} is not a folder; create it first or choose another.")
    folder = into / partial.name
    try:
        folder.mkdir(exist_ok=True)
        for name in (FIRST, START, BEFORE):
            if (partial / name).exists():
                shutil.copyfile(partial / name, folder / name)
    except OSError as error:
        raise ScopeError(f"{folder} cannot be written ({error.strerror}); choose another folder.") from error
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Half-written files of an earlier attempt that was itself killed."""
    for name in (VIDEO, ACTIONS, METADATA):
        stem, suffix = os.path.splitext(name)
        for leftover in folder.glob(f".{stem}-*{suffix}"):
            leftover.unlink()


def _rename(partial: Path) -> Path:
    target = partial.with_name(partial.name.removesuffix(PARTIAL))
    require_free(target, mend=f"move it away and run `scope-play recover {partial}` again")
    try:
        return partial.rename(target)
    except OSError as error:
        raise ScopeError(
            f"{partial} cannot be renamed to {target.name} ({error.strerror}); rename it by hand."
        ) from error
