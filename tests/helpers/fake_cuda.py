"""CUDA streams and events of a machine that has none: all runs at once, in order, and waits are counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scope_play.session import frame_transfer


class FakeCuda:
    """`log`: "wait" for each time that the host waited, and whatever a test adds."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.priorities: list[int] = []
        cuda = self

        class Stream:
            def __init__(self, device: Any = None, priority: int = 0) -> None:
                cuda.priorities.append(priority)

            def wait_stream(self, other: Any) -> None:
                pass

            def synchronize(self) -> None:
                cuda.log.append("wait")

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                self.recorded = False

            def record(self, stream: Any = None) -> None:
                self.recorded = True

            def synchronize(self) -> None:
                assert self.recorded
                cuda.log.append("wait")

            def query(self) -> bool:
                return self.recorded

            def elapsed_time(self, other: Any) -> float:
                assert self.recorded
                assert other.recorded
                return 1.0

        @contextlib.contextmanager
        def stream(of: Any) -> Iterator[None]:
            yield

        main = Stream()
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "stream", stream)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: main)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: cuda.log.append("wait"))
        patch.setattr(frame_transfer, "pinned", lambda shape: torch.empty(shape, dtype=torch.uint8))
