"""The thinnest whole: the window opens, the world streams, the pad's rows reach it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scope_play.play.engine.protocol import Phase
from scope_play.play.menus.screen import Screen
from tests.helpers.play_driver import Driver


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    driver = Driver(gamepad="scripted", autoplay=True)
    yield driver
    driver.app.close()


def test_demo_plays_by_itself(demo: Driver) -> None:
    # The script begins with a moment of rest, longer than a few chunks of a quick world.
    demo.until(lambda: any(step.rows.any() for step in demo.app.playback.steps))
    assert demo.screen is Screen.PLAY
    assert demo.app.engine.status.phase is Phase.PLAYING


def test_untrained_is_said_on_screen(demo: Driver) -> None:
    demo.until(lambda: demo.app.playback.chunk >= 1)
    assert demo.app.compositor.hud(demo.app.devices, demo.app.clock()).badge == "untrained"


def test_the_window_needs_no_torch() -> None:
    code = "import sys, scope_play.play.app, scope_play.commands.play; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is there on Linux alone")
def test_triton_is_there_before_the_graphics_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mesa's LLVM before Triton's is a crash (`load_compilers`)."""
    code = """
import sys, pygame
from scope_play.play.ui.window import Window
opened = pygame.display.init
pygame.display.init = lambda: (print("triton" in sys.modules), opened())
Window((320, 180)).close()
"""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a desktop has but one display")
@pytest.mark.parametrize("display", [{"DISPLAY": ":987"}, {"WAYLAND_DISPLAY": "wayland-987"}, {}])
def test_a_display_that_does_not_answer_is_said(display: dict[str, str], tmp_path: Path) -> None:
    """SDL would play where nobody sees it, and end as if all had been well."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), **display}
    words = [sys.executable, "-m", "scope_play.cli", "play", "--seconds", "1"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "start from a desktop, or use --headless" in done.stderr
    assert all(name in done.stderr for name in display.values())
