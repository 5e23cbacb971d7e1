"""Play without a window: an action file in, a recording out, as fast as the model goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from scope_play.actions import fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import Begin, EngineLike, Event, Failed, Load, Loaded, Made, MakeEngine, Opened
from scope_play.recording.metadata import ClipHeader, InputSetup
from scope_play.recording.recorder import Recorder

Wanted = TypeVar("Wanted", Loaded, Opened, Made)


@dataclass
class RowFile:
    """Rows float32 (N, 10) handed out in order, the last one repeated."""

    rows: np.ndarray
    taken: int = 0

    def take(self, now: float, n: int) -> np.ndarray:
        self.taken += n
        return fit_rows(self.rows, self.taken)[-n:]


WORK_SECONDS = 3600.0
"""How long the engine may need for what it is at: on a processor a pass of SCOPE takes a minute, and a program that
ends around it is aborted."""


def play_file(
    request: LoadRequest,
    begin: Begin,
    actions: Path,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    make_engine: MakeEngine = LocalEngine,
) -> Path:
    """Play `actions` in the model of `request` and return the clip folder made below `out`.

    N rows give the frames 0 .. N-1, rounded up to whole chunks. `progress(done, total)` counts chunks. Raises
    ScopeError for whatever the engine or the recorder could not do.
    """
    rows = read_actions(actions)
    source = RowFile(rows)
    engine = make_engine(source.take, clock=time.perf_counter, history_bytes=0)
    try:
        engine.post(Load(request))
        _await(engine, Loaded)
        engine.post(begin)
        opened = _await(engine, Opened)
        header = ClipHeader.of(
            opened.spec,
            opened.identity,
            build=opened.build,
            seed=begin.seed,
            prompt=begin.prompt,
            inputs=InputSetup(pad_name=actions.name, pad_guid="file"),
        )
        recorder = Recorder(out, header, opened.first_frame)
        reason = "stopped before its end"
        try:
            total = max(1, -(-(len(rows) - 1) // opened.spec.frames_per_chunk))
            for done in range(total):
                progress(done, total)
                engine.play(0.0)
                made = _await(engine, Made)
                recorder.add_chunk(made.frames, made.rows, made.sampled, made.ready, 0, made.hashes)
            reason = "the action file ended"
        finally:
            clip = recorder.close(reason)
    finally:
        engine.close(WORK_SECONDS)
    if clip is None:
        raise ScopeError(recorder.status.text)
    return clip


def _await(engine: EngineLike, kind: type[Wanted]) -> Wanted:
    while True:
        engine.wait(1.0)
        event: Event | None = engine.take()
        if isinstance(event, Failed):
            raise ScopeError(event.text)
        if isinstance(event, kind):
            return event
        if event is None and not engine.alive:
            raise ScopeError(engine.status.text)
