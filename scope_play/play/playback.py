"""One running game without a window: engine events in, the frame that is due out, the recording on the side.

The window, the headless run and the benchmark all drive this same object from one thread: `tick` as often as they
like, `presented` once the frame is on screen. It never blocks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from scope_play.play import pacing
from scope_play.play.engine.protocol import (
    Begin,
    EngineLike,
    Event,
    Failed,
    GoBack,
    Interrupted,
    Leave,
    Made,
    Opened,
    Refused,
    SetPrompt,
    Step,
    WentBack,
)
from scope_play.play.filmstrip import Strip
from scope_play.play.pacing import Pace

if TYPE_CHECKING:
    from scope_play.recording.recorder import RecorderStatus
    from scope_play.session.interfaces import WorldSpec


class Recording(Protocol):
    """What the player needs of `scope_play.recording.recorder.Recorder`."""

    @property
    def status(self) -> RecorderStatus: ...

    def add_chunk(
        self,
        frames: np.ndarray,
        rows: np.ndarray,
        t_sampled: float,
        t_shown: float,
        prompt_id: int,
        hashes: tuple[str, ...] = (),
    ) -> None: ...

    def mark(self, event: dict[str, Any]) -> None: ...

    def stop(self, reason: str) -> None: ...

    def close(self, reason: str) -> object: ...


@dataclass(frozen=True)
class Shot:
    """One frame to show: uint8 (H, W, 3); `part` counts frames inside the chunk; `made` is None for a start image."""

    frame: np.ndarray
    chunk: int
    part: int
    made: Made | None


@dataclass(frozen=True)
class Split:
    """Where the time between hand and eye went for the newest chunk, in seconds. Of an engine elsewhere `queue` is the
    wait for the model and `link` the way there and back, with packing and unpacking."""

    sample: float = 0.0
    wait: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    show: float = 0.0
    queue: float = 0.0
    link: float = 0.0


@dataclass
class Playback:
    """`engine` must take its rows from wherever the pad's events go. Times are of `clock`, which is the engine's.
    `responsive`: whether the player wants rows to be sampled so."""

    engine: EngineLike
    clock: Callable[[], float] = time.perf_counter
    responsive: Callable[[], bool] = lambda: False
    recording: Recording | None = None
    opened: Opened | None = None
    playing: bool = False
    shot: Shot | None = None
    pace: Pace = field(default_factory=lambda: Pace(20, 4))
    strip: Strip = field(default_factory=Strip)
    steps: list[Step] = field(default_factory=list)
    split: Split = field(default_factory=Split)
    _ahead: bool = False
    _pending: deque[Shot] = field(default_factory=deque)
    _shown_at: deque[float] = field(default_factory=lambda: deque(maxlen=41))
    _last_sampled: float | None = None
    _finishing: list[Recording] = field(default_factory=list)
    _prompt_ids: dict[str | None, int] = field(default_factory=dict)

    @property
    def spec(self) -> WorldSpec | None:
        return self.opened.spec if self.opened else None

    @property
    def chunk(self) -> int:
        """Chunks shown so far, the one on screen included."""
        return self.shot.chunk if self.shot else 0

    @property
    def fps(self) -> float:
        """Frames shown per second over the last two seconds of play."""
        if len(self._shown_at) < 2:
            return 0.0
        return (len(self._shown_at) - 1) / max(self._shown_at[-1] - self._shown_at[0], 1e-9)

    @property
    def prompt(self) -> str | None:
        """The prompt the chunk on screen was made under."""
        if self.steps:
            return self.steps[-1].prompt
        return self.opened.begin.prompt if self.opened else None

    @property
    def resting_frame(self) -> np.ndarray | None:
        """The last frame of the chunk on screen: the one a recording that begins now goes on from."""
        if self.shot is None or self.shot.made is None:
            return self.shot.frame if self.shot else None
        return self.shot.made.frames[-1]

    def begin(self, begin: Begin) -> None:
        self.leave("restarted")
        self.engine.post(begin)

    def resume(self) -> None:
        self.playing = True
        self._ahead = False
        self.pace = pacing.stood_still(self.pace)
        self._shown_at.clear()

    def pause(self) -> None:
        self.playing = False
        self.engine.pause()

    def set_prompt(self, prompt: str) -> None:
        self.engine.post(SetPrompt(prompt))

    def go_back(self, chunk: int) -> None:
        """Stand paused after `chunk` chunks; what was made but not shown never happened."""
        self.pause()
        self.engine.post(GoBack(chunk))

    def leave(self, reason: str) -> None:
        """End the session and the recording."""
        self.pause()
        self.stop_recording(reason)
        if self.opened:
            self.engine.post(Leave())
        self._forget()

    def record(self, recording: Recording) -> None:
        """Everything shown from now on goes to `recording`, whose header holds the present prompt as number 0."""
        self.stop_recording("another recording began")
        self.recording = recording
        self._prompt_ids = {self.prompt: 0}

    def stop_recording(self, reason: str) -> None:
        """The recording ends in the background; `finish` waits for it."""
        if self.recording:
            self.recording.stop(reason)
            self._finishing.append(self.recording)
            self.recording = None

    def finish(self, reason: str) -> None:
        """End the recording and wait until all of them are on the disk."""
        self.stop_recording(reason)
        for recording in self._finishing:
            recording.close(reason)
        self._finishing.clear()

    def tick(self, now: float) -> tuple[Shot | None, list[Event]]:
        """The frame to put on screen now (None: leave what is there), and events for whoever draws."""
        events = []
        while event := self.engine.take():
            events.append(event)
            self._heed(event)
        shot = None
        if self.playing and self._pending and pacing.is_due(self.pace, now):
            shot = self._pending.popleft()
            self.pace = pacing.shown(self.pace, now, first=shot.part == 0)
            self.shot = shot
        elif any(isinstance(event, (Opened, WentBack)) for event in events):
            shot = self.shot
        if self.playing and self.opened:
            begin = pacing.begin_at(self.pace, now, len(self._pending), self.engine.flying)
            if begin is not None:
                self._ahead = pacing.samples_ahead(self.pace, self.responsive(), self._ahead)
                self.engine.play(begin, ahead=self._ahead)
        return shot, events

    def next_due(self, now: float) -> float:
        """When `tick` will have something to do at the latest, as far as is known; frames not made yet are not."""
        if not (self.playing and self._pending):
            return now + 1.0
        return now if self.pace.due is None else self.pace.due

    def presented(self, shot: Shot, began: float, done: float) -> None:
        """`shot` was drawn and put on screen between the two clock times."""
        made = shot.made
        if made is None:
            return
        self._shown_at.append(done)
        if shot.part == 0:
            self._first_shown(shot, made, began, done)
        if shot.part == len(made.frames) - 1:
            self.strip.add(shot.chunk, shot.frame)

    def _first_shown(self, shot: Shot, made: Made, began: float, done: float) -> None:
        # An input falls anywhere between two samplings, so on average it waits half the distance.
        span = made.sampled - self._last_sampled if self._last_sampled is not None else 0.0
        self._last_sampled = made.sampled
        self.split = Split(
            sample=span / 2,
            wait=began - made.ready,
            denoise=made.timings.get("denoise", 0.0),  # the commit comes after the frames are out
            decode=made.timings.get("decode", 0.0),
            show=done - began,
            queue=made.timings.get("queue", 0.0),
            link=_link(made),
        )
        self.steps.append(Step(made.rows, made.prompt))
        if self.recording:
            if made.prompt not in self._prompt_ids:
                self._prompt_ids[made.prompt] = len(self._prompt_ids)
                self.recording.mark({"event": "prompt", "id": self._prompt_ids[made.prompt], "text": made.prompt})
            self.recording.add_chunk(
                made.frames, made.rows, made.sampled, done, self._prompt_ids[made.prompt], made.hashes
            )

    def _heed(self, event: Event) -> None:
        match event:
            case Opened():
                self.stop_recording("another game began")
                self._forget()
                self.opened = event
                self.pace = Pace(event.spec.fps, event.spec.frames_per_chunk)
                self.shot = Shot(event.first_frame, 0, 0, None)
                self.strip.add(0, event.first_frame)
            case Made():
                self.pace = pacing.arrived(self.pace, event.work, event.answer)
                self._pending.extend(Shot(frame, event.index, part, event) for part, frame in enumerate(event.frames))
            case WentBack(chunk, frame):
                self._pending.clear()
                self._last_sampled = None
                self.shot = Shot(frame, chunk, 0, None)
                self.strip.cut(chunk)
                del self.steps[chunk:]
                if self.recording:
                    self.recording.mark({"event": "rewind", "to_chunk": chunk})
            case Failed():
                self.stop_recording(event.text)
                self.playing = False
                self._forget()
            case Interrupted():
                self.playing = False
            case Refused():
                pass

    def _forget(self) -> None:
        self.opened, self.shot = None, None
        self.playing = False
        self.strip = Strip()
        self.steps = []
        self.split = Split()
        self._last_sampled = None
        self._pending.clear()
        self._shown_at.clear()
        self.pace = replace(self.pace, due=None, works=(), answers=(), hiccups=0)


def _link(made: Made) -> float:
    """Seconds of the way to an engine elsewhere and back."""
    if made.answer is None:
        return 0.0
    return max(0.0, made.answer - made.timings.get("denoise", 0.0) - made.timings.get("decode", 0.0))
