"""The app, started as often as a test likes and closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.play_driver import Driver


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_PICTURES_DIR", str(tmp_path / "pictures"))
    monkeypatch.setenv("HOME", str(tmp_path))
    drivers: list[Driver] = []

    def make(worlds: dict[str, Any] | None = None, **options: Any) -> Driver:
        drivers.append(Driver(worlds, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.app.close()
