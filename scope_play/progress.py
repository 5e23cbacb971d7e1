"""Progress of long work on the terminal: a bar for each stage, how much is done, and how long the rest will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

BYTES_FROM = 1 << 20
"""Totals from here on are taken for bytes: no clip has a million steps or frames."""


def amount(done: float, total: float) -> str:
    """`12/30`, or `1.2/14.6 GB` for bytes."""
    if total < BYTES_FROM:
        return f"{int(done)}/{int(total)}"
    unit, name = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
    return f"{done / unit:.1f}/{total / unit:.1f} {name}"


def span(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class AmountColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(amount(task.completed, task.total or 0))


LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


def note(text: str) -> None:
    """One line on the standard error stream, for what is no error but should be known."""
    print(f"scope-play: {text}", file=sys.stderr, flush=True)


class StageBars:
    """A context manager to be called with (stage, done, total).

    On a terminal each stage is a bar; elsewhere a stage's beginning, its end, and every half minute of it are a line.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description:>14}"),
            BarColumn(),
            AmountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._clock = clock
        self._stage: str | None = None
        self._done = 0
        self._began = self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or done < self._done:
            self._task = self._bars.add_task(stage, total=total)
            self._stage = stage
            self._began = self._said = self._clock()
        self._done = done
        self._bars.update(self._task, completed=done, total=total)
        if not self._console.is_terminal:
            self._say(stage, done, total)

    def _say(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        if 0 < done < total and now - self._said < LINE_EVERY:
            return
        self._said = now
        left = f", about {span((now - self._began) * (total - done) / done)} left" if 0 < done < total else ""
        self._console.print(f"{stage} {amount(done, total)}{left}", soft_wrap=True, highlight=False)

    def __enter__(self) -> StageBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
