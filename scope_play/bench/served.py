"""A server in a process of its own, as the remote benchmark meets it, and what of a processor it takes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from types import TracebackType

import psutil

from scope_play.errors import ScopeError


class MarkedServer:
    """`port` and `token` of a `scope_play.bench.marked` that is ready to play."""

    def __init__(self, model: str, seats: int, size: str | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "scope_play.bench.marked", "--model", model, "--seats", str(seats)),
                *(("--size", size) if size else ()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SCOPE_PLAY_TOKEN": self.token},
        )
        self.port = 0
        stdout = self._process.stdout
        while stdout and (line := stdout.readline()):
            if line.startswith("Open "):
                self.port = int(line.split("#")[0].rstrip("/").rpartition(":")[2])
            elif "is ready" in line:
                return
        raise ScopeError(f"the server for {model} ended before it was ready; see what it said above.")

    def cpu(self) -> tuple[float, float]:
        """Seconds so far of the whole process, and of its threads for sockets, encoders and files."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin and stdout:
            stdin.write("cpu\n")
            stdin.flush()
            for line in stdout:
                if line.startswith("cpu "):
                    whole, outside = json.loads(line[4:])
                    return whole, outside
        raise ScopeError("the server ended in the midst of the run; see what it said above.")

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def __enter__(self) -> MarkedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
