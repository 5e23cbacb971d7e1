"""A pad that plays by itself, for `--demo`: the same raw events as a real one, and the same every time by seed.

It walks, runs, strafes, looks around, stands still, aims and fires, jumps, hits, reloads and switches, each at least
once in every round of about twenty seconds, in an order and with strengths drawn from the seed. Thumbs move smoothly,
triggers travel, and presses last as long as a finger's.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from typing import Any

from scope_play.play.input.events import CENTRE, StickName, Vector, into_disc
from scope_play.play.input.translator import Device, Plugged, RawButton, RawEvent, RawStick, RawTrigger

TICK = 1.0 / 120.0
THUMB_SPEED = 9.0  # how fast a thumb nears its target, 1/s
TRIGGER_SECONDS = 0.05
LEVEL = 0.8  # how strongly the look returns to the horizon


class ScriptedPad:
    """A backend with one pad, plugged in at `start`. What it does depends on `seed` and time, not on who reads when."""

    def __init__(self, start: float, seed: int = 0) -> None:
        self.device = Device(f"scripted:{seed}", f"scripted pad (seed {seed})", "scripted", "scripted")
        self._random = random.Random(seed)
        self._start = start
        self._ticks = 0
        self._plugged = False
        self._sticks: dict[StickName, Vector] = {"left": CENTRE, "right": CENTRE}
        self._targets: dict[StickName, Vector] = {"left": CENTRE, "right": CENTRE}
        self._pitch = 0.0
        self._turning = self._side()
        self._round: list[Callable[[float], float]] = []
        self._next_deed = 0.5
        self._planned: list[tuple[float, int, str, float]] = []
        self._count = 0

    def read(self, events: Iterable[Any], t: float) -> list[RawEvent]:
        """Everything the script does up to time `t`, stamped with when it does it."""
        done: list[RawEvent] = []
        if not self._plugged:
            self._plugged = True
            done.append(Plugged(self._start, self.device))
        while self._start + self._ticks * TICK <= t:
            done += self._tick(self._ticks * TICK)
            self._ticks += 1
        return done

    def sample(self, t: float) -> list[RawStick]:
        return [RawStick(t, self.device, stick, *position) for stick, position in self._sticks.items()]

    def close(self) -> None:
        return

    def _tick(self, time: float) -> list[RawEvent]:
        if time >= self._next_deed:
            self._targets = {"left": CENTRE, "right": CENTRE}
            self._next_deed = time + self._next()(time)
        done: list[RawEvent] = []
        now = self._start + time
        while self._planned and self._planned[0][0] <= time:
            _, _, control, value = heapq.heappop(self._planned)
            if control.endswith("trigger"):
                done.append(RawTrigger(now, self.device, control, value))
            else:
                done.append(RawButton(now, self.device, control, value > 0.0))
        for stick, target in self._targets.items():
            x, y = self._sticks[stick]
            level = LEVEL * self._pitch if stick == "right" else 0.0
            step = THUMB_SPEED * TICK
            near = into_disc((x + (target[0] - x) * step, y + (target[1] - level - y) * step))
            if near != (x, y):
                self._sticks[stick] = near
                done.append(RawStick(now, self.device, stick, *near))
        self._pitch += self._sticks["right"][1] * TICK
        return done

    def _next(self) -> Callable[[float], float]:
        """The next deed: it sets the sticks' targets, plans presses from a given time on, and returns its seconds."""
        if not self._round:
            self._round = [
                *(self._walk, self._run_and_turn, self._strafe, self._look_around, self._stand, self._jump),
                *(self._aim_and_fire, self._fire_on_the_move, self._melee, self._reload, self._switch),
            ]
            self._random.shuffle(self._round)
        return self._round.pop()

    def _walk(self, time: float) -> float:
        self._targets = {"left": (self._between(-0.1, 0.1), self._between(-1.0, -0.8)), "right": self._glance(0.3)}
        return self._between(1.5, 3.0)

    def _run_and_turn(self, time: float) -> float:
        self._targets = {"left": (0.0, -1.0), "right": (self._other_way() * self._between(0.4, 0.8), 0.0)}
        return self._between(1.2, 2.5)

    def _strafe(self, time: float) -> float:
        side = self._side()
        self._targets = {"left": (side * 0.9, self._between(-0.3, 0.0)), "right": (-side * 0.2, 0.0)}
        return self._between(1.0, 2.0)

    def _look_around(self, time: float) -> float:
        self._targets = {
            "left": CENTRE,
            "right": (self._other_way() * self._between(0.4, 0.9), self._between(-0.5, 0.5)),
        }
        return self._between(1.2, 2.4)

    def _stand(self, time: float) -> float:
        return self._between(0.8, 1.5)

    def _jump(self, time: float) -> float:
        self._walk(time)
        self._press("a", time + 0.4)
        return 1.5

    def _aim_and_fire(self, time: float) -> float:
        self._targets = {"left": CENTRE, "right": self._glance(0.15)}
        self._press("left_trigger", time + 0.1, 1.8)
        for shot in range(self._random.randint(2, 4)):
            self._press("right_trigger", time + 0.5 + 0.35 * shot, 0.12)
        return 2.2

    def _fire_on_the_move(self, time: float) -> float:
        self._walk(time)
        self._press("right_trigger", time + 0.3, self._between(0.4, 1.0))
        return 2.0

    def _melee(self, time: float) -> float:
        self._targets = {"left": (0.0, -0.9), "right": CENTRE}
        self._press("right_stick", time + 0.3)
        return 1.2

    def _reload(self, time: float) -> float:
        self._targets = {"left": (self._side() * 0.5, 0.0), "right": CENTRE}
        self._press("x", time + 0.2)
        return 1.6

    def _switch(self, time: float) -> float:
        self._targets = {"left": (0.0, -0.6), "right": self._glance(0.2)}
        self._press("y", time + 0.2)
        return 1.4

    def _press(self, control: str, at: float, seconds: float | None = None) -> None:
        """Plan a press; a trigger travels there and back."""
        if seconds is None:
            seconds = self._between(0.06, 0.14)
        if not control.endswith("trigger"):
            self._plan(at, control, 1.0)
            self._plan(at + seconds, control, 0.0)
            return
        steps = 5
        for step in range(1, steps + 1):
            travelled = TRIGGER_SECONDS * step / steps
            self._plan(at + travelled, control, step / steps)
            self._plan(at + seconds + travelled, control, 1.0 - step / steps)

    def _plan(self, at: float, control: str, value: float) -> None:
        heapq.heappush(self._planned, (at, self._count, control, value))
        self._count += 1

    def _glance(self, most: float) -> Vector:
        return (self._between(-most, most), self._between(-most, most) / 2)

    def _between(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def _other_way(self) -> float:
        """Turns alternate, so that every round turns both ways."""
        self._turning = -self._turning
        return self._turning

    def _side(self) -> float:
        return self._random.choice((-1.0, 1.0))
