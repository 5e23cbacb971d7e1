"""When to show which frame: pure functions of the clock and of the chunks that arrived.

A `Pace` is advanced by three events: a chunk arrived after so much work, a frame was shown at such a time, play
stood still. It answers three questions: is the next frame due, when will the next chunk be wanted, and how early
must it be begun. Nothing here reads a clock.

While the model keeps up, frames follow each other every `1 / fps` on a fixed grid. When it does not, a chunk's
frames are spread evenly over the time a chunk takes: slow motion, never a burst. A frame that comes late by more
than half an interval moves the grid instead of chasing it, and since chunks are begun on demand the delay between
making and showing cannot grow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MEMORY = 9
"""Chunks whose work is remembered: about two seconds, enough to see past one hiccup and quick to follow a change."""

STRETCH = 1.02
"""In slow motion frames last this much longer than measured, so that the next chunk is there when they end."""

MARGIN = 0.012
"""Seconds by which a chunk should be ready before it is wanted: two polls of the window plus a scheduler's slice."""

BEYOND, STANDSTILL, HICCUPS = 2.5, 0.15, 4
"""An answer later than so many times the usual and so many seconds does not count, unless more of them follow."""

FASTER = 0.97
"""Back to real time only when the work fits this share of a chunk, so that a model at the border does not flutter."""


@dataclass(frozen=True)
class Pace:
    """`fps` of the world, `chunk` frames a chunk; `due`: when the next frame may be shown (None: at once);
    `interval`: seconds from frame to frame in the chunk being shown; `works`: seconds spent on the last chunks;
    `answers`: of an engine elsewhere, seconds from asking to having them, less those that they waited for the model;
    `hiccups`: how many answers in a row were too late to believe that this is how it stays."""

    fps: int
    chunk: int
    due: float | None = None
    interval: float = 0.0
    works: tuple[float, ...] = ()
    answers: tuple[float, ...] = ()
    hiccups: int = 0

    @property
    def beat(self) -> float:
        """Seconds a frame lasts in real time."""
        return 1.0 / self.fps

    @property
    def speed(self) -> float:
        """Shown frames per second over the world's own: 1 in real time, below it in slow motion."""
        return 1.0 if self.interval <= self.beat else self.beat / self.interval


def arrived(pace: Pace, work: float, answer: float | None = None) -> Pace:
    """A chunk came that took `work` seconds from sampling the pad to finished frames; from elsewhere after `answer`.

    How long work takes decides how fast frames follow each other, how long an answer takes when to ask. Waiting for
    the model belongs to neither: whoever asked earlier because of it would wait the longer.
    """
    pace = replace(pace, works=(*pace.works, work)[-MEMORY:])
    if answer is None:
        return pace
    typical = sorted(pace.answers)[len(pace.answers) // 2] if pace.answers else answer
    if answer > BEYOND * typical + STANDSTILL and pace.hiccups < HICCUPS:
        return replace(pace, hiccups=pace.hiccups + 1)  # the line stood still: all that was on its way came late
    return replace(pace, answers=(*pace.answers, answer)[-MEMORY:], hiccups=0)


def is_due(pace: Pace, now: float) -> bool:
    return pace.due is None or now >= pace.due


def shown(pace: Pace, now: float, first: bool) -> Pace:
    """A frame went on screen at `now`; `first` if it opens a chunk, the only place where the interval may change."""
    interval = _interval(pace) if first or not pace.interval else pace.interval
    on_grid = pace.due is not None and now - pace.due < interval / 2
    anchor = pace.due if on_grid and pace.due is not None else now
    return replace(pace, interval=interval, due=anchor + interval)


def stood_still(pace: Pace) -> Pace:
    """After a pause or a rewind: the next frame is due at once and starts a new grid."""
    return replace(pace, due=None)


@dataclass(frozen=True)
class Flying:
    """Frames that were asked for and are on their way, the oldest of them `since` then."""

    frames: int = 0
    since: float = 0.0


NOTHING_FLYING = Flying()


def wanted_at(pace: Pace, now: float, waiting: int, flying: Flying = NOTHING_FLYING) -> float:
    """When a chunk that is not asked for yet would be shown, with `waiting` finished frames and `flying` ones before
    it; those cannot be shown before they can be there."""
    interval = pace.interval or pace.beat
    due = now if pace.due is None else max(pace.due, now - interval)
    due += waiting * interval
    return max(due, flying.since + lead(pace)) + flying.frames * interval if flying.frames else due


def begin_at(pace: Pace, now: float, waiting: int, flying: Flying = NOTHING_FLYING) -> float | None:
    """The last moment to sample the pad for the next chunk and still have it in time (in the past: at once).

    None while a whole chunk is waiting to be shown: more would only make the world answer later.
    """
    return None if waiting >= pace.chunk else wanted_at(pace, now, waiting, flying) - lead(pace)


def lead(pace: Pace) -> float:
    """Seconds to allow for a chunk: the second longest of the remembered ones, so that one hiccup does not count."""
    answers = pace.answers or pace.works
    if not answers:
        return pace.chunk * pace.beat
    ordered = sorted(answers)
    return ordered[max(len(ordered) - 2, 0)] + MARGIN


def samples_ahead(pace: Pace, responsive: bool, before: bool) -> bool:
    """Whether the next chunk may be begun before this one's frames are there; `before`: whether it was so until now.

    That makes more frames of a model that does not keep up, and each answers later than if its rows had been sampled
    when they are needed: so only then, only for a player who asked for `responsive`, whose rows are all there at once,
    and from then on, since a model that keeps up this way would not without.
    """
    return responsive and (before or pace.speed < 1)


def hint(pace: Pace) -> str:
    """What the HUD says: `real time` or `slow 0.8x`."""
    speed = pace.speed
    return "real time" if speed >= 0.995 else f"slow {max(speed, 0.01):.2g}x"


def _interval(pace: Pace) -> float:
    if not pace.works:
        return pace.beat
    needed = _typical(pace.works)
    real_time = pace.chunk * pace.beat
    if needed <= real_time * (FASTER if pace.interval > pace.beat else 1.0):
        return pace.beat
    return max(pace.beat, needed * STRETCH / pace.chunk)


def _typical(works: tuple[float, ...]) -> float:
    """Mean without the longest and the shortest, once there are enough to drop them."""
    ordered = sorted(works)
    kept = ordered[1:-1] if len(ordered) >= 4 else ordered
    return sum(kept) / len(kept)
