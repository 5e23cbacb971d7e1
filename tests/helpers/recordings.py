"""Plays a fake world into a recorder: rows that matter, rewinds and prompt changes where asked for, or for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from scope_play.actions import BUTTONS, ROW_WIDTH
from scope_play.recording.clip import VIDEO
from scope_play.recording.metadata import ClipHeader, InputSetup
from scope_play.recording.recorder import PlayedBefore, Recorder
from scope_play.recording.video import count_frames
from scope_play.session.interfaces import WorldLike
from tests.helpers.fake_world import FakeWorld

UNWRITTEN = 5
"""Frames that a recording may still hold back when all it was given has been encoded: one fragment of its video."""

INPUTS = InputSetup("exact", 0.1, {"left_y": -1}, "Xbox Controller", "030000005e0400008e02000014010000")


def random_rows(rng: np.random.Generator, n: int = 4) -> np.ndarray:
    rows = rng.uniform(-1, 1, (n, ROW_WIDTH)).astype(np.float32)
    rows[:, : len(BUTTONS)] = rows[:, : len(BUTTONS)] > 0.5
    return rows


def header_of(world: WorldLike, seed: int = 3, prompt: str | None = "a yard", prompt_id: int = 0) -> ClipHeader:
    return ClipHeader.of(world.spec, world.identity, seed=seed, prompt=prompt, prompt_id=prompt_id, inputs=INPUTS)


def record(
    root: Path,
    chunks: int,
    *,
    world: WorldLike | None = None,
    rewinds: dict[int, int] | None = None,
    prompts: dict[int, str] | None = None,
    begin_after: int = 0,
    prompt: str | None = "a yard",
    **settings: Any,
) -> Path:
    """A clip folder of `chunks` chunks, begun when the session had made `begin_after`.

    `rewinds` maps the number of recorded chunks at which to rewind to the chunk number of the session to go back to;
    `prompts` maps the number of recorded chunks to the prompt from then on.
    """
    world = world or FakeWorld()
    rng = np.random.default_rng(5)
    session = world.start(None, prompt, 3)
    moments = {0: (session.snapshot(), 0)}  # the state and prompt_id after each chunk of the session
    shown, played, texts = session.first_frame, [], []
    for _ in range(begin_after):
        played.append(random_rows(rng))
        texts.append(prompt)
        shown = session.step(played[-1]).frames[-1]
        moments[session.index] = session.snapshot(), 0
    before = PlayedBefore(session.first_frame, np.concatenate(played), texts) if played else None
    recorder = Recorder(root, header_of(world, prompt=prompt), shown, before=before, **settings)
    prompt_id = newest_prompt = 0
    for number in range(chunks):
        if number in (rewinds or {}):
            snapshot, prompt_id = moments[rewinds[number]]
            session.restore(snapshot)
            recorder.mark({"event": "rewind", "to_chunk": session.index})
        if number in (prompts or {}):
            prompt_id = newest_prompt = newest_prompt + 1
            recorder.mark({"event": "prompt", "id": prompt_id, "text": prompts[number]})
            session.set_prompt(prompts[number])
        rows = random_rows(rng)
        chunk = session.step(rows)
        moments[session.index] = session.snapshot(), prompt_id
        recorder.add_chunk(chunk.frames, rows, 0.2 * number, 0.2 * number + 0.1, prompt_id)
    clip = recorder.close("quit")
    assert clip is not None, recorder.status
    return clip


def record_clips(root: Path, said: Path, chunks: int, pause: float, end: str) -> NoReturn:
    """Clips of `chunks` chunks, one after another, until the process is killed; with the end "dies" it ends by itself
    after the first, without closing it. `said` is told the folder and the frames handed to the recorder."""
    world = FakeWorld()
    with said.open("w", buffering=1) as words:
        while True:
            session, rng = world.start(None, "a yard", 3), np.random.default_rng(5)
            recorder = Recorder(root, header_of(world), session.first_frame)
            for _ in range(chunks):
                rows = random_rows(rng)
                recorder.add_chunk(session.step(rows).frames, rows, 0.0, 0.0, 0)
                print(recorder.path.name, recorder.status.frames, file=words)
                time.sleep(pause)
            if end == "dies":
                while recorder.status.frames - count_frames(recorder.path / VIDEO) > UNWRITTEN:
                    time.sleep(0.01)
                os._exit(9)
            recorder.close("quit")
