"""Debian's Chromium without a window, with a pad that exists only in the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FAKE_PAD = """
window.fakePad = { id: "Fake Xbox Pad (STANDARD GAMEPAD Vendor: 045e Product: 028e)", index: 0, connected: true,
  mapping: "standard", timestamp: 0, axes: [0, 0, 0, 0],
  buttons: Array.from({ length: 17 }, () => ({ pressed: false, touched: false, value: 0 })) };
navigator.getGamepads = () => [window.fakePad.connected ? window.fakePad : null];
window.fakeButton = (i, on) => { Object.assign(window.fakePad.buttons[i], { pressed: on, value: on ? 1 : 0 }); };
"""

A, B, X, Y, LT, RT, VIEW, MENU, UP, DOWN = 0, 1, 2, 3, 6, 7, 8, 9, 12, 13


def find_browser() -> str:
    """Its path. Without one the test is skipped, or, where `.ci/run` says that a browser is required, fails."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        why = f"no browser is installed; install one, for example with apt-get install {BROWSERS[0]}"
        (pytest.fail if os.environ.get("SCOPE_PLAY_BROWSER") == "required" else pytest.skip)(why)
    return str(found)


class Player:
    """A page, and hands on its fake pad."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def press(self, button: int, seconds: float = 0.08) -> None:
        self.page.evaluate("([i]) => fakeButton(i, true)", [button])
        self.page.wait_for_timeout(1000 * seconds)
        self.page.evaluate("([i]) => fakeButton(i, false)", [button])
        self.page.wait_for_timeout(40)

    def push(self, *axes: float) -> None:
        self.page.evaluate("(axes) => { fakePad.axes = axes; }", list(axes))

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Until the JavaScript expression is true; the page's own policy lets nobody wait inside it."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"{condition}: {self.page.locator('body').inner_text()}"
            self.page.wait_for_timeout(30)

    def screen(self, name: str) -> None:
        """Wait for a screen."""
        self.wait(f"scopePlay.screen === {name!r}")

    def shown(self, chunk: int) -> None:
        """Wait until that chunk is on screen."""
        self.wait(f"scopePlay.player.shown >= {chunk}")

    def chunk(self) -> int:
        return int(self.page.evaluate("scopePlay.player.shown"))

    def choose(self, label: str) -> None:
        """Move the focus to a menu's row with the pad, and choose it."""
        for _ in range(14):
            if label in self.page.locator(".row.on:visible").inner_text():
                self.press(A)
                return
            self.press(DOWN)
        raise AssertionError(f"no row {label!r} among {self.page.locator('.row:visible').all_inner_texts()}")


@contextlib.contextmanager
def browsing(
    url: str, width: int = 1280, height: int = 720, init: str = FAKE_PAD, cut: bool = False
) -> Iterator[Player]:
    """The page at `url`; what goes wrong in it fails the test, but with `cut` for connections that break."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        try:
            context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
            page = context.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda line: problems.append(line.text) if line.type == "error" and not cut else None)
            page.add_init_script(init)
            page.goto(url)
            yield Player(page)
            assert not problems, problems
        finally:
            browser.close()
