"""Disks that are too small or too slow: what is written below a folder goes through a file that says so."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

OpenFile = Callable[[Path, str], io.FileIO]


def below(folder: Path, open_file: OpenFile, patch: pytest.MonkeyPatch) -> None:
    """`Path.open` for binary writing anywhere below `folder` gives what `open_file` gives, unbuffered."""
    opened = Path.open

    def redirected(path: Path, mode: str = "r", *rest: Any, **named: Any) -> IO[Any]:
        writes = "b" in mode and mode[0] in "wax"
        return open_file(path, mode) if writes and folder in path.parents else opened(path, mode, *rest, **named)

    patch.setattr(Path, "open", redirected)


def full_after(size: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """`folder` lies on a disk that holds `size` bytes: the rest of a write that does not fit is refused."""

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            rest = memoryview(data)
            room = size - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            if rest.nbytes and room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(rest.cast("B")[: max(room, 0)])

    below(folder, File, patch)


class Stall:
    """The first write below `folder` that `begins` with something stands still until `go`; `reached` says when."""

    def __init__(self, folder: Path, begins: bytes, patch: pytest.MonkeyPatch) -> None:
        self.go, self.reached = threading.Event(), threading.Event()
        stall = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                if begins in bytes(data[:16]):
                    stall.reached.set()
                    assert stall.go.wait(30)
                return super().write(data)

        below(folder, File, patch)
