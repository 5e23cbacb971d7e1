"""Which screens there are, and the sentence that is shown on them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Screen(Enum):
    START = "start"
    PLAY = "play"
    PAUSE = "pause"
    REWIND = "rewind"
    SETTINGS = "settings"
    CONTROLS = "controls"


@dataclass(frozen=True)
class Message:
    """A sentence on screen until clock time `until`."""

    text: str = ""
    alert: bool = False
    until: float = 0.0
