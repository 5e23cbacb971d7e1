"""Players of the remote benchmark: a page in a browser, the window, or nothing but the window's inner half."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from scope_play.bench.hands import PRESS_EVERY, PRESS_SECONDS, Press
from scope_play.bench.presses import Answers
from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.protocol import Begin, Failed, Load, Loaded
from scope_play.play.engine.remote import RemoteEngine
from scope_play.play.input.action_sampler import ActionSampler
from scope_play.play.input.events import ButtonEvent
from scope_play.play.playback import Playback
from scope_play.wire import messages
from scope_play.wire.client import Connection, Ended

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WARM_UP = 3.0
LAST = 3.0
"""Seconds that the last press has to be seen."""

BEFORE = 0.6
"""Seconds without a press before the line stands still, so that every press is in a chunk by then."""
BUTTON = "south"


@dataclass
class Seen:
    """What one player saw: clock times of frames shown, seconds from each press to its own frame and when it was
    pressed, and presses that no frame showed or frames that no press stands behind."""

    shown: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    pressed_at: list[float] = field(default_factory=list)
    lost: int = 0
    invented: int = 0

    @property
    def fps(self) -> float:
        return (len(self.shown) - 1) / max(self.shown[-1] - self.shown[0], 1e-9) if len(self.shown) > 1 else 0.0


class Knock:
    """Whoever comes while all seats are taken: the `place` it is told, `seconds` after it began to connect."""

    def __init__(self, url: str) -> None:
        heard: SimpleQueue[Any] = SimpleQueue()
        began = time.perf_counter()
        self._connection = Connection(url, heard.put)
        while not isinstance(item := heard.get(timeout=LAST), messages.Queue):
            if isinstance(item, (messages.Welcome, Ended)):
                self.close()
                raise ScopeError(
                    "one more than there are seats was not told to wait; give fewer --seats than --players."
                )
        self.place, self.seconds = item.place, time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()


class Bot(threading.Thread):
    """Plays over `url` without a window, pressing jump at random moments, until `stop`."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(name=f"bot {seed}", daemon=True)
        self.seen = Seen()
        self.problem = ""
        self._url, self._chance = url, random.Random(seed)
        self._stop_asked = threading.Event()
        self._hands_off_until = 0.0
        self.ready = threading.Event()

    def hands_off(self, seconds: float) -> None:
        """Press nothing for so long: what is done while the line stands still does not count."""
        self._hands_off_until = time.perf_counter() + seconds

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()
        if self.problem:
            raise ScopeError(self.problem)

    def run(self) -> None:
        clock = time.perf_counter
        sampler = ActionSampler(clock())
        engine = RemoteEngine(self._url, lambda now, n: sampler.rows(now, n), clock=clock)
        playback = Playback(engine, clock)
        answers = Answers((BUTTON,))
        engine.post(Load(LoadRequest("elsewhere")))
        next_press, down, presses, counted_from = clock() + 1e9, False, [], 1e9
        while not self._stop_asked.is_set() and not self.problem:
            now = clock()
            shot, events = playback.tick(now)
            for event in events:
                if isinstance(event, Loaded):
                    playback.begin(Begin(seed=self._chance.randrange(1000)))
                elif isinstance(event, Failed):
                    self.problem = event.text
            if playback.opened and not playback.playing:
                sampler.start(now)
                playback.resume()
                counted_from, next_press = now + WARM_UP, now + WARM_UP
            if now >= next_press and (down or now > self._hands_off_until):
                down = not down
                sampler.push(ButtonEvent(now, BUTTON, down))
                if down:
                    presses.append(Press(now, BUTTON))
                next_press = now + (PRESS_SECONDS if down else self._chance.uniform(*PRESS_EVERY))
            if shot and shot.made:
                playback.presented(shot, now, now)
                if now >= counted_from:
                    self.ready.set()
                    self.seen.shown.append(now)
                    if shot.part == 0:
                        answers.press(presses)
                        presses = []
                    known = len(answers.own)
                    answers.frame(shot.made.rows, shot.part, now)
                    self.seen.delays += answers.own[known:]
                    self.seen.pressed_at += [now - delay for delay in answers.own[known:]]
            engine.wait(0.002)
        self.seen.lost, self.seen.invented = answers.lost, answers.invented
        engine.close()


PAGE = """
window.fakePad = { id: "Bench", index: 0, connected: true, mapping: "standard", axes: [0, 0, 0, 0],
  buttons: Array.from({ length: 17 }, () => ({ pressed: false, value: 0 })) };
navigator.getGamepads = () => [window.fakePad];
window.handsOffUntil = 0;
window.seen = { shown: [], marks: [], presses: [] };
const clock = () => performance.timeOrigin + performance.now();
let lit = false;
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...rest) {
  draw.apply(this, rest);
  if (this.canvas.id !== "view" || !window.counting) return;
  const [red] = this.getImageData(8, 8, 1, 1).data, now = clock();
  window.seen.shown.push(now);
  if (red > 128 && !lit) window.seen.marks.push(now);
  lit = red > 128;
};
window.hand = async (every, held) => {
  window.counting = window.pressing = true;
  window.fakePad.axes = [0, -0.6, 0.5, 0]; // walking and turning: what has to be encoded moves all the time
  while (window.pressing) {
    await new Promise((done) => setTimeout(done, 1000 * (every[0] + Math.random() * (every[1] - every[0]))));
    if (!window.pressing) break;
    if (clock() < window.handsOffUntil) continue;
    window.seen.presses.push(clock());
    window.fakePad.buttons[0] = { pressed: true, value: 1 };
    await new Promise((done) => setTimeout(done, 1000 * held));
    window.fakePad.buttons[0] = { pressed: false, value: 0 };
  }
};
"""


def play_in_browser(url: str, seconds: float, hands_off: float, meanwhile: Callable[[], None]) -> Seen:
    """A page in a browser without a window; what is measured is when a mark can be read from its canvas. `meanwhile` is
    called half way, with no press for `hands_off` seconds around it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ScopeError("--browser needs playwright; install it with pip install playwright.") from error
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise ScopeError(f"--browser needs one of {', '.join(BROWSERS)}; install one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.add_init_script(PAGE)
        page.goto(url)
        _until(page, "scopePlay.ready")
        page.evaluate("fakePad.buttons[0] = { pressed: true, value: 1 }")
        page.wait_for_timeout(100)
        page.evaluate("fakePad.buttons[0] = { pressed: false, value: 0 }")
        _until(page, "scopePlay.screen === 'play'")
        page.wait_for_timeout(1000 * WARM_UP)
        page.evaluate("([every, held]) => void hand(every, held)", [PRESS_EVERY, PRESS_SECONDS])
        page.wait_for_timeout(500 * seconds)
        page.evaluate("(ms) => { handsOffUntil = performance.timeOrigin + performance.now() + ms; }", 1000 * hands_off)
        page.wait_for_timeout(1000 * min(hands_off, BEFORE))
        meanwhile()
        page.wait_for_timeout(500 * seconds)
        page.evaluate("pressing = false")
        page.wait_for_timeout(1000 * LAST)
        page.evaluate("counting = false")
        found: dict[str, Any] = page.evaluate("seen")
        browser.close()
    return match(found["presses"], found["marks"], found["shown"])


def match(presses: list[float], marks: list[float], shown: list[float]) -> Seen:
    """Presses and marks in ms of one clock, in order, all of them with the time to be seen. A lost press shows itself
    at the end, and in the delays of all that follow."""
    seen = Seen(shown=[at / 1000 for at in shown])
    waiting = deque(presses)
    for mark in marks:
        if not waiting or waiting[0] > mark:
            seen.invented += 1
            continue
        at = waiting.popleft()
        seen.delays.append((mark - at) / 1000)
        seen.pressed_at.append(at / 1000)
    seen.lost = len(waiting)
    return seen


def play_in_window(url: str, seconds: float, record: Path) -> Seen:
    """The app's window on SDL's dummy driver, with a virtual pad, its recording on."""
    from scope_play.bench.hands import Hand, jumping
    from scope_play.bench.session import play_until, playing
    from scope_play.play.engine.remote import connected

    seen, answers = Seen(), Answers((BUTTON,))
    with playing("elsewhere", None, "exact", "1280x720", record, make_engine=connected(url)) as (app, pad):
        hand = Hand(pad, jumping(), app.clock)

        def look(shot: Any, at: float) -> None:
            if shot.made is None:
                return
            seen.shown.append(at)
            while hand.presses:
                answers.press([hand.presses.popleft()])
            known = len(answers.own)
            answers.frame(shot.made.rows, shot.part, at)
            seen.delays += answers.own[known:]
            seen.pressed_at += [at - delay for delay in answers.own[known:]]

        play_until(app, app.clock() + WARM_UP, lambda shot, at: None)
        hand.start()
        try:
            play_until(app, app.clock() + seconds, look, hand.looked)
        finally:
            hand.stop()
    seen.lost, seen.invented = answers.lost, answers.invented
    return seen


def _until(page: Any, condition: str) -> None:
    end = time.monotonic() + 60
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise ScopeError(f"the page did not come to {condition}: {page.locator('body').inner_text()[:300]}")
        page.wait_for_timeout(50)
