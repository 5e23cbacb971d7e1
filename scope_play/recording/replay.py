"""Runs recorded actions again: the same frames if the world is the same, and the first that differs if it is not.

A `Script` is what a session is to be given, whatever it came from: a clip of this app with its rewinds and prompts,
or a bare action file in the layout of SCOPE and CrossFPS.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from scope_play.actions import fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.recording.clip import ACTIONS, VIDEO, Clip, frame_hash
from scope_play.recording.metadata import BuildSetup, ClipHeader, ModelSetup, Prompt
from scope_play.recording.video import Mp4Writer, copy_frames

if TYPE_CHECKING:
    from scope_play.session.interfaces import SessionLike, SnapshotLike, WorldLike

ACTION_FILES = (ACTIONS, "actions.parquet", "action.parquet")


@dataclass(frozen=True)
class Beat:
    """One chunk to make: rows float32 (n, 10) and, if it changes here, the prompt.

    `number` is the chunk's in the recording: 1 shows the first frames, 0 and less were played before it. `source`,
    if not None, is the chunk to go back to first.
    """

    number: int
    rows: np.ndarray
    prompt: str | None
    source: int | None = None


@dataclass(frozen=True)
class Script:
    """A whole replay. `hashes`, if any, are those of frames 0, 1, ... as they were recorded."""

    frames_per_chunk: int
    image: np.ndarray | Path | None
    seed: int
    prompt: str | None
    beats: tuple[Beat, ...]
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The first frame that is not as recorded, and the chunk that shows it (0: the first image)."""

    frame: int
    chunk: int


Numbered: TypeAlias = tuple[int, np.ndarray]
"""A frame of the recording: its number, and uint8 (H, W, 3)."""


def clip_script(clip: Clip) -> Script:
    """What made `clip`, chunk by chunk."""
    header, per_chunk = clip.metadata.header, clip.metadata.header.frames_per_chunk
    before = clip.rows_before().reshape(-1, per_chunk, clip.rows.shape[1])
    earlier = clip.metadata.before.prompts if clip.metadata.before else ()
    beats = [
        Beat(number - len(before) + 1, rows, _prompt_at(earlier, number * per_chunk))
        for number, rows in enumerate(before)
    ]
    sources = {(branch.frame - 1) // per_chunk + 1: branch.source_chunk for branch in clip.metadata.branches}
    texts = {prompt.id: prompt.text for prompt in clip.metadata.prompts}
    for start in range(0, len(clip.rows) - 1, per_chunk):
        number = start // per_chunk + 1
        text = texts[int(clip.columns.prompt_id[start + 1])]
        beats.append(Beat(number, clip.rows[start : start + per_chunk], text, sources.get(number)))
    first = earlier[0].text if earlier else header.prompt
    return Script(per_chunk, clip.start_image(), header.seed, first, tuple(beats), clip.columns.frame_hash)


def file_script(
    path: Path, *, image: np.ndarray | Path | None, seed: int, prompt: str | None, frames_per_chunk: int
) -> Script:
    """The rows of an action file from `image` on; the last row is held to fill a chunk."""
    rows = read_actions(path)
    chunks = max(1, -(-(len(rows) - 1) // frames_per_chunk))
    held = fit_rows(rows, chunks * frames_per_chunk)
    beats = [Beat(i + 1, part, prompt) for i, part in enumerate(np.split(held, chunks))]
    return Script(frames_per_chunk, image, seed, prompt, tuple(beats))


def find_actions(path: Path) -> Path:
    """The action file that `path` is or holds."""
    if path.is_file():
        return path
    for name in ACTION_FILES:
        if (path / name).is_file():
            return path / name
    raise ScopeError(f"{path} is neither an action file nor a folder with one of {', '.join(ACTION_FILES)}.")


def play(script: Script, world: WorldLike) -> Iterator[Numbered]:
    """The frames of the recording from 0 on, made anew. What was played before it is run, but not given out.

    Raises:
        ScopeError: the world makes chunks of another length, or takes no prompt where one was recorded.
    """
    if world.spec.frames_per_chunk != script.frames_per_chunk:
        raise ScopeError(
            f"The recording has chunks of {script.frames_per_chunk} frames and {world.spec.name} makes "
            f"{world.spec.frames_per_chunk}; load the model with the recording's chunk length."
        )
    with world.start(script.image, script.prompt, script.seed) as session:
        yield from _play(script, session)


def _play(script: Script, session: SessionLike) -> Iterator[Numbered]:
    returns = Counter(beat.source for beat in script.beats if beat.source is not None)
    kept: dict[int, tuple[SnapshotLike, str | None]] = {}
    prompt = script.prompt
    number = script.beats[0].number - 1 if script.beats else 0
    last = session.first_frame
    for beat in script.beats:
        if number == 0:
            yield 0, last
        if returns[number]:
            kept[number] = session.snapshot(), prompt
        if beat.source is not None:
            snapshot, prompt = kept[beat.source]
            session.restore(snapshot)
            returns[beat.source] -= 1
            if not returns[beat.source]:
                del kept[beat.source]
        if beat.prompt is not None and beat.prompt != prompt:
            session.set_prompt(beat.prompt)
        prompt = beat.prompt
        frames = session.step(beat.rows).frames
        number, last = beat.number, frames[-1]
        if number > 0:
            yield from enumerate(frames, (number - 1) * script.frames_per_chunk + 1)
    if number == 0:
        yield 0, last


def save(frames: Iterable[Numbered], path: Path, fps: int) -> Iterator[Numbered]:
    """Passes the frames on and writes them to an mp4, which takes the place of `path` when the last is through."""
    with replacing(path) as beside, tempfile.TemporaryDirectory(dir=beside.parent) as folder:
        writer: Mp4Writer | None = None
        fragments = Path(folder) / VIDEO
        try:
            for number, frame in frames:
                if writer is None:
                    writer = Mp4Writer(fragments, frame.shape[0], frame.shape[1], fps)
                writer.write(frame)
                yield number, frame
        finally:  # open files cannot be removed everywhere
            if writer is not None:
                writer.close()
        copy_frames(fragments, beside)


def first_difference(script: Script, frames: Iterable[Numbered]) -> Difference | None:
    """Compares frames with the recorded hashes and stops at the first that differs.

    Raises:
        ScopeError: the recording has no hashes.
    """
    if not script.hashes:
        raise ScopeError("This is a bare action file without frame hashes, so there is nothing to check it against.")
    for number, frame in frames:
        if frame_hash(frame) != script.hashes[number]:
            return Difference(number, -(-number // script.frames_per_chunk))
    return None


def setup_differences(header: ClipHeader, world: WorldLike) -> list[str]:
    """What is not as it was when the recording was made, one clause each: `steps 2, recorded with 4`."""
    now_model = ModelSetup.of(world.spec, world.identity)
    clauses = []
    for was, now in ((header.model, now_model), (header.build, BuildSetup.here())):
        for item in dataclasses.fields(was):
            old, new = getattr(was, item.name), getattr(now, item.name)
            if old != new:
                name = "weights sha256" if item.name == "sha256" else item.name
                clauses.append(f"{name} {_short(new)}, recorded with {_short(old)}")
    if (world.spec.height, world.spec.width) != (header.height, header.width):
        clauses.append(f"size {world.spec.height}x{world.spec.width}, recorded at {header.height}x{header.width}")
    return clauses


def _short(value: object) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text


def _prompt_at(prompts: tuple[Prompt, ...], frame: int) -> str | None:
    return [prompt.text for prompt in prompts if prompt.frame <= frame][-1]
