"""Play without a window: an action file in, a recording out, as fast as the model goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from scope_play.actions import fit_rows, read_actions
from scope_play.errors import ScopeError
from scope_play.play.app_state import OpenWorld
from scope_play.play.engine.local import Engine
from scope_play.play.engine.protocol import Begin, Event, Failed, Load, Loaded, Made, Opened
from scope_play.play.ui.screens.screens import model_name
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


def play_file(
    open_world: OpenWorld,
    model: str,
    begin: Begin,
    actions: Path,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Play `actions` in `model` and return the clip folder made below `out`.

    N rows give the frames 0 .. N-1, rounded up to whole chunks. `progress(done, total)` counts chunks. Raises
    ScopeError for whatever the engine or the recorder could not do.
    """
    rows = read_actions(actions)
    source = RowFile(rows)
    engine = Engine(source.take, history_bytes=0)
    try:
        engine.post(Load(model_name(model), lambda: open_world(model)))
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
        try:
            total = max(1, -(-(len(rows) - 1) // opened.spec.frames_per_chunk))
            for done in range(total):
                progress(done, total)
                engine.play(0.0)
                made = _await(engine, Made)
                recorder.add_chunk(made.frames, made.rows, made.sampled, made.ready, 0)
        finally:
            clip = recorder.close("the action file ended")
    finally:
        engine.close()
    if clip is None:
        raise ScopeError(recorder.status.text)
    return clip


def _await(engine: Engine, kind: type[Wanted]) -> Wanted:
    while True:
        engine.wait(1.0)
        event: Event | None = engine.take()
        if isinstance(event, Failed):
            raise ScopeError(event.text)
        if isinstance(event, kind):
            return event
        if event is None and not engine.thread.is_alive():
            raise ScopeError(engine.status.text)
