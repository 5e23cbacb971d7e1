"""The one thread that owns the model: it is created, loaded, stepped and freed here and nowhere else.

Commands come in through a mailbox and are obeyed between chunks; results go out through an outbox that holds at
most one finished chunk. The rows of a chunk are taken when its computation begins and not before. Whenever there
is nothing to do the thread sleeps on a condition, so a pause costs nothing.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from scope_play.actions import ROW_WIDTH
from scope_play.errors import ScopeError
from scope_play.loading.free_memory import host_free
from scope_play.loading.request import display_name
from scope_play.play.engine.heap import give_back_gpu
from scope_play.play.engine.open import open_here
from scope_play.play.engine.protocol import (
    Adopted,
    Begin,
    Clock,
    Command,
    Event,
    Failed,
    GoBack,
    Leave,
    Load,
    Loaded,
    Made,
    Opened,
    Phase,
    Refused,
    SetPrompt,
    SetStream,
    Status,
    TakeRows,
    WentBack,
)
from scope_play.play.engine.rate import expected_fps
from scope_play.play.engine.rewind import BUDGET_BYTES
from scope_play.play.engine.seat import Seat, Take, in_a_sentence
from scope_play.play.pacing import NOTHING_FLYING, Flying
from scope_play.recording.metadata import BuildSetup
from scope_play.session.interfaces import Rehearsing

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest
    from scope_play.session.interfaces import SessionLike, WorldLike, WorldSpec


KEEPS_UP = 0.85
"""Of real time: what a chunk may take of its own length for a model to be played where a smaller one is at hand."""
MEASURED = 3

DOING = {Phase.LOADING: "loading the model", Phase.WARMING: "warming up"}


class LocalEngine:
    """See `EngineLike`. `open_world` loads what a `Load` asks for, in the engine's thread."""

    def __init__(
        self,
        take_rows: TakeRows,
        *,
        clock: Clock = time.perf_counter,
        history_bytes: int = BUDGET_BYTES,
        open_world: Callable[[LoadRequest], WorldLike] | None = None,
    ) -> None:
        self._take_rows = take_rows
        self._clock = clock
        self._history_bytes = history_bytes
        self._open_world = open_world or open_here
        self._changed = threading.Condition()
        self._mailbox: deque[Command] = deque()
        self._outbox: deque[Event] = deque()
        self._begin_at: float | None = None
        self._ahead = False
        self._sampled: tuple[np.ndarray, float] | None = None  # rows of a chunk that was begun ahead, and when
        self._closing = False
        self._status = Status(Phase.EMPTY, "No model is loaded.", clock())
        self._world: WorldLike | None = None
        self._running: Seat | None = None
        self._wanted = SetStream()
        self._instead_of = ""
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.thread.start()

    @property
    def status(self) -> Status:
        return self._status

    @property
    def alive(self) -> bool:
        return self.thread.is_alive()

    @property
    def flying(self) -> Flying:
        return NOTHING_FLYING

    def post(self, command: Command) -> None:
        """Obeyed after the chunk in the making. All but `SetPrompt` and `SetStream` also stop play."""
        with self._changed:
            if not isinstance(command, (SetPrompt, SetStream)):
                self._begin_at = None
            self._mailbox.append(command)
            self._changed.notify()

    def play(self, begin_at: float, *, ahead: bool = False) -> None:
        with self._changed:
            self._begin_at, self._ahead = begin_at, ahead
            self._changed.notify()

    def pause(self) -> None:
        with self._changed:
            self._begin_at = None
            if self._status.phase is Phase.PLAYING:
                self._say(Phase.PAUSED, "Paused.", self._status.spec)

    def take(self) -> Event | None:
        """The oldest event not yet taken."""
        with self._changed:
            event = self._outbox.popleft() if self._outbox else None
            if isinstance(event, Made):
                self._begin_at = None  # asked for before this chunk was known; the taker asks anew
            self._changed.notify()
            return event

    def wait(self, seconds: float) -> bool:
        """Block until there is an event to take or `seconds` have passed; False if there is none."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._outbox) or self._closing, seconds) and bool(self._outbox)

    def close(self, seconds: float = 5.0) -> bool:
        """Stop after the chunk in the making and free the model; False if it was still busy after `seconds`."""
        with self._changed:
            self._closing = True
            self._begin_at = None
            self._mailbox.clear()
            self._changed.notify_all()
        self.thread.join(seconds)
        return not self.thread.is_alive()

    # Below: the engine's own thread.

    def _run(self) -> None:
        try:
            while True:
                command = self._next()
                if self._closing:
                    break
                self._guard(command)
        finally:
            self._drop_world()
            asked = "The engine has stopped."
            self._say(Phase.STOPPED, asked if self._closing else "The engine stopped on a bug; please report it.")

    def _next(self) -> Command | None:
        """The next command; None when it is time to make a chunk."""
        with self._changed:
            while not self._closing:
                if self._mailbox:
                    return _oldest_that_counts(self._mailbox)
                wait = None
                if self._begin_at is not None and self._running and not any(isinstance(e, Made) for e in self._outbox):
                    wait = self._begin_at - self._clock()
                    if wait <= 0:
                        self._begin_at = None
                        return None
                self._changed.wait(wait)
        return None

    def _guard(self, command: Command | None) -> None:
        """Obey, or make a chunk.

        Whatever a model, a file or a full memory can raise ends in a sentence, with the world freed if it may be
        broken; a bug (any other exception) ends the thread with its traceback.
        """
        text, lost = "", False
        try:
            self._make() if command is None else self._obey(command)
        except ScopeError as error:
            text, lost = str(error), self._world is None
        except (MemoryError, RuntimeError, OSError, ImportError) as error:
            text, lost = in_a_sentence(error, DOING.get(self._status.phase, "playing")), True
        if text and isinstance(command, (SetPrompt, SetStream)):
            self._put(Refused(text))
        elif text:
            # Out here the traceback is gone, and with it its hold on tensors.
            self._running = self._sampled = None
            if lost:
                self._drop_world()
            self._say(Phase.FAILED if lost else Phase.READY, text, self._world.spec if self._world else None)
            self._put(Failed(text, lost))

    def _obey(self, command: Command) -> None:
        match command:
            case Load(request):
                self._load(request)
            case Begin():
                self._begin(command)
            case SetPrompt(prompt):
                if self._running:
                    self._running.set_prompt(prompt)
            case SetStream():
                self._set_stream(command)
            case GoBack(chunk):
                self._go_back(chunk)
            case Leave():
                self._leave()

    def _load(self, request: LoadRequest, instead_of: str = "") -> None:
        self._drop_world()
        name = display_name(request.model)
        self._say(Phase.LOADING, f"Loading {name}")
        world = self._open_world(request)
        self._world, self._instead_of = world, instead_of
        spec = world.spec
        self._say(Phase.WARMING, f"Warming up {name}", spec)
        if isinstance(world, Rehearsing):
            warming = partial(self._say_how_far, Phase.WARMING, f"Warming up {name}", spec)
            world.rehearse(progress=warming)
        with world.start(None if spec.has_scene else np.full((spec.height, spec.width, 3), 127, np.uint8)) as session:
            rows = np.zeros((spec.frames_per_chunk, ROW_WIDTH), np.float32)
            session.step(rows)
            took = self._quickest(session, rows) if request.smaller else 0.0
            picture = session.first_frame if spec.has_scene else None
        real = spec.frames_per_chunk / spec.fps
        if request.smaller and took > KEEPS_UP * real:
            return self._load(replace(request, model=request.smaller, smaller=None), f"{name}: {1000 * took:.0f} ms")
        note = f"{instead_of} for what lasts {1000 * real:.0f}, so {name} is played here." if instead_of else ""
        self._say(Phase.READY, f"{name} is ready.", spec)
        self._put(Loaded(spec, picture, note))
        return None

    def _quickest(self, session: SessionLike, rows: np.ndarray) -> float:
        """Seconds of the quickest of some chunks: what else runs on the machine makes others late."""
        took = []
        for _ in range(MEASURED):
            began = self._clock()
            session.step(rows)
            took.append(self._clock() - began)
        return min(took)

    def _begin(self, command: Begin) -> None:
        self._leave()
        world = self._world
        if world is None:
            raise ScopeError("no model is loaded; choose one first.")
        wanted = self._wanted.of(world.spec.stream)
        stream = None if wanted == world.spec.stream else wanted
        seat = self._running = Seat(
            world, command, stream=stream, history_bytes=self._history_bytes, free=host_free, clock=self._clock
        )
        self._say(Phase.PAUSED, "Ready to play.", world.spec)
        spec = world.spec if stream is None else replace(world.spec, stream=stream)
        identity = world.identity | ({"instead_of": self._instead_of} if self._instead_of else {})
        self._put(Opened(seat.session.first_frame, command, spec, identity, BuildSetup.here()))

    def _set_stream(self, command: SetStream) -> None:
        world, running = self._world, self._running
        if world is None:
            return
        stream = command.of(world.spec.stream)
        if running:
            before = running.stream or world.spec.stream
            running.set_stream(stream)
            fps = expected_fps(running.timings, before, stream, world.spec.frames_per_chunk)
            self._put(Adopted(stream, fps))
        self._wanted = command

    def _make(self) -> None:
        world, running = self._world, self._running
        if world is None or running is None:
            return
        if self._status.phase is not Phase.PLAYING:
            self._say(Phase.PLAYING, "Playing.", world.spec)
        rows, sampled = self._sampled or self._sample(world)
        self._sampled = None

        def following() -> np.ndarray:
            self._sampled = self._sample(world)
            return self._sampled[0]

        def out(take: Take) -> None:
            chunk = take.chunk
            self._put(Made(take.index, chunk.frames, rows, take.prompt, chunk.timings, sampled, take.ready, take.work))

        running.make(rows, out, following if self._ahead and running.overlaps else None)

    def _sample(self, world: WorldLike) -> tuple[np.ndarray, float]:
        now = self._clock()
        return self._take_rows(now, world.spec.frames_per_chunk), now

    def _go_back(self, chunk: int) -> None:
        world, running = self._world, self._running
        if world is None or running is None:
            return
        self._say(Phase.REWINDING, "Going back", world.spec)
        self._sampled = None
        frame = running.go_back(chunk, partial(self._say_how_far, Phase.REWINDING, "Going back", world.spec))
        with self._changed:
            self._outbox = deque(event for event in self._outbox if not isinstance(event, Made))
        self._say(Phase.PAUSED, "Ready to play.", world.spec)
        self._put(WentBack(len(running.history.steps), frame))

    def _leave(self) -> None:
        if self._running:
            self._running.close()
            self._running = self._sampled = None
            with self._changed:
                self._outbox = deque(event for event in self._outbox if not isinstance(event, Made))
        if self._world:
            self._say(Phase.READY, "Ready.", self._world.spec)

    def _drop_world(self) -> None:
        self._running = self._sampled = None
        self._world = None
        gc.collect()
        give_back_gpu()

    def _say(self, phase: Phase, text: str, spec: WorldSpec | None = None) -> None:
        since = self._status.since if phase is self._status.phase else self._clock()
        with self._changed:
            self._status = Status(phase, text, since, spec)
            self._changed.notify_all()

    def _say_how_far(self, phase: Phase, text: str, spec: WorldSpec, done: int, total: int) -> None:
        self._say(phase, f"{text}, {done} of {total}", spec)

    def _put(self, event: Event) -> None:
        with self._changed:
            self._outbox.append(event)
            self._changed.notify_all()


def _oldest_that_counts(mailbox: deque[Command]) -> Command:
    """Takes the next command; before a load nothing counts, as it frees whatever that would have made."""
    loads = [place for place, command in enumerate(mailbox) if isinstance(command, Load)]
    for _ in range(loads[-1] if loads else 0):
        mailbox.popleft()
    return mailbox.popleft()
