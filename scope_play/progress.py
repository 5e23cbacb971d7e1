"""Progress of long work on the terminal: a bar for each stage, how much is done, and how long the rest will take."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

BYTES_FROM = 1 << 20
"""Totals from here on are taken for bytes: no clip has a million steps or frames."""


class AmountColumn(ProgressColumn):
    """`12/30`, or `1.2/14.6 GB` for bytes."""

    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        if total < BYTES_FROM:
            return Text(f"{int(task.completed)}/{total}")
        unit, name = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
        return Text(f"{task.completed / unit:.1f}/{total / unit:.1f} {name}")


class StageBars:
    """A context manager to be called with (stage, done, total); nothing is drawn where there is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description:>14}"),
            BarColumn(),
            AmountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._stage: str | None = None
        self._done = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or done < self._done:
            self._task = self._bars.add_task(stage, total=total)
            self._stage = stage
        self._done = done
        self._bars.update(self._task, completed=done, total=total)

    def __enter__(self) -> StageBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
