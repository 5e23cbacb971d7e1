"""actions.journal: what a recording writes as it happens, one JSON object a line, so that a crash costs one line.

The first line is the head: schema, header, the process that writes, the hash of frame 0. Each later line is a chunk
(rows, times, frame hashes), an event, or the note that the video stopped. A last line that is torn is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scope_play.actions import ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.recording.metadata import SCHEMA, Before, Branch, ClipHeader, Prompt
from scope_play.recording.ownership import Writer
from scope_play.records import read_record, to_json

JOURNAL = "actions.journal"


@dataclass(frozen=True)
class ChunkLine:
    """One chunk: rows float32 (n, 10); times float64 (n,); one hash a frame."""

    rows: np.ndarray
    t_sampled: np.ndarray
    t_shown: np.ndarray
    prompt_id: int
    hashes: tuple[str, ...]


@dataclass
class Journal:
    """A journal read back. `video_stopped` is the number of frames the video has and why it has no more."""

    header: ClipHeader
    first_hash: str
    before: Before | None
    writer: Writer
    chunks: list[ChunkLine] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    video_stopped: tuple[int, str] | None = None


def head_line(header: ClipHeader, first_hash: str, before: Before | None) -> bytes:
    return _line(
        {
            "schema": SCHEMA,
            "header": to_json(header),
            "first_hash": first_hash,
            "before": None if before is None else to_json(before),
            "writer": to_json(Writer.here()),
        }
    )


def chunk_line(chunk: ChunkLine) -> bytes:
    return _line(
        {
            "rows": chunk.rows.astype(np.float64).tolist(),  # a float32 survives the way through decimal digits
            "t_sampled": chunk.t_sampled.tolist(),
            "t_shown": chunk.t_shown.tolist(),
            "prompt_id": chunk.prompt_id,
            "hashes": list(chunk.hashes),
        }
    )


def prompt_line(prompt: Prompt) -> bytes:
    return _line({"prompt": to_json(prompt)})


def branch_line(branch: Branch) -> bytes:
    return _line({"branch": to_json(branch)})


def event_line(event: dict[str, Any]) -> bytes:
    return _line({"event": event})


def video_stopped_line(frames: int, reason: str) -> bytes:
    return _line({"video_stopped": [frames, reason]})


def read_journal(path: Path) -> Journal:
    """Reads a journal up to the first line that is not whole.

    Raises:
        ScopeError: the file is missing, or not even its first line is whole.
    """
    lines = _lines(path)
    head = next(lines, None)
    if head is None or head.get("schema") != SCHEMA:
        raise ScopeError(f"{path} does not begin like a recording of this app; there is nothing in it to recover.")
    source = str(path)
    journal = Journal(
        header=read_record(ClipHeader, head.get("header"), source, "header", strict=False),
        first_hash=str(head.get("first_hash")),
        before=read_record(Before, head["before"], source, "before", strict=False) if head.get("before") else None,
        writer=_writer(head.get("writer"), source),
    )
    journal.prompts.append(Prompt(journal.header.prompt_id, 0, journal.header.prompt))
    for line in lines:
        try:
            _add(journal, line, source)
        except (LookupError, TypeError, ValueError, OverflowError):
            break  # what comes after it may hang on it
    return journal


def _writer(value: Any, source: str) -> Writer:
    if isinstance(value, list):  # version 0.1: number and start
        value = dict(zip(("pid", "started"), value, strict=False))
    return read_record(Writer, value or {}, source, "writer", strict=False)


def _add(journal: Journal, line: dict[str, Any], source: str) -> None:
    if "rows" in line:
        count = journal.header.frames_per_chunk
        journal.chunks.append(
            ChunkLine(
                rows=np.asarray(line["rows"], np.float32).reshape(count, ROW_WIDTH),
                t_sampled=np.asarray(line["t_sampled"], np.float64).reshape(count),
                t_shown=np.asarray(line["t_shown"], np.float64).reshape(count),
                prompt_id=int(line["prompt_id"]),
                hashes=tuple(str(line["hashes"][frame]) for frame in range(count)),
            )
        )
    elif "prompt" in line:
        journal.prompts.append(read_record(Prompt, line["prompt"], source, "prompt", strict=False))
    elif "branch" in line:
        journal.branches.append(read_record(Branch, line["branch"], source, "branch", strict=False))
    elif "event" in line:
        journal.events.append({**line["event"], "frame": int(line["event"]["frame"])})
    elif "video_stopped" in line:
        frames, reason = line["video_stopped"]
        journal.video_stopped = (int(frames), str(reason))


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    value = json.loads(line)
                except ValueError:
                    return
                if not isinstance(value, dict):
                    return
                yield value
    except OSError as error:
        raise ScopeError(f"{path} cannot be read ({error.strerror}); check the folder you gave.") from error
