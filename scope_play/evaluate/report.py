"""What an evaluation leaves behind: a table, JSON, contact sheets and side-by-side videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scope_play.actions import FPS
from scope_play.evaluate.rows import Interval, Row
from scope_play.evaluate.trials import Trial
from scope_play.train.sheet import contact_sheet

if TYPE_CHECKING:
    from rich.table import Table


def as_table(title: str, rows: Sequence[Row]) -> Table:
    """The rows for a terminal: the world's figure, where 95 % of other games would lie, and what it is read against."""
    from rich.table import Table

    table = Table(title=title)
    for heading in ("group", "what", "world", "95 %", "true frames", "95 %", "first frame kept", "target", ""):
        right = heading in {"world", "95 %", "true frames", "first frame kept"}
        table.add_column(heading, justify="right" if right else "left")
    group = ""
    for row in rows:
        measured = ((row.world, row.interval), (row.truth, row.truth_interval))
        figures = [text for value, around in measured for text in (_figure(value), _interval(around))]
        figures.append(_figure(row.copy))
        met = "" if row.met is None else "met" if row.met else "missed"
        table.add_row("" if row.group == group else row.group, row.name, *figures, row.target, met)
        group = row.group
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def write_json(path: Path, setup: dict[str, object], rows: Sequence[Row]) -> None:
    """Setup and every figure; the file is replaced only when whole."""
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps({**setup, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    beside.replace(path)


def write_sheet(path: Path, trial: Trial, made: np.ndarray, seconds: Sequence[float], clips: int = 6) -> None:
    """Contact sheet: of each clip the truth above, the world below, at the given times."""
    from PIL import Image

    at = [round(s * FPS) for s in seconds if round(s * FPS) < made.shape[1]]
    lines = [frames[clip, at] for clip in range(min(clips, len(made))) for frames in (trial.frames, made)]
    Image.fromarray(contact_sheet(lines)).save(path)


def write_pair(path: Path, pair: tuple[Trial, Trial], made: tuple[np.ndarray, np.ndarray], scale: int = 2) -> None:
    """Video and still of one start played twice: untouched on the left, with the control on the right; the world above,
    the truth below."""
    from PIL import Image

    from scope_play.recording.video import Mp4Writer

    upper = np.concatenate([made[0][0], made[1][0]], 2)
    lower = np.concatenate([pair[0].frames[0], pair[1].frames[0]], 2)
    video = np.concatenate([upper, lower], 1).repeat(scale, 1).repeat(scale, 2)
    writer = Mp4Writer(path.with_suffix(".mp4"), video.shape[1], video.shape[2], FPS)
    try:
        for frame in video:
            writer.write(frame)
    finally:
        writer.close()
    Image.fromarray(video[len(video) * 2 // 3]).save(path.with_suffix(".png"))
