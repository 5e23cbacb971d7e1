"""`python -m scope_play.bench.marked`: a server as `scope-play serve` runs it, whose frames show in a corner whether
the jump button is pressed in the row that they come from.

A line on its standard input is answered with the processor time of its threads, and its end stops the server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from scope_play.actions import BUTTONS
from scope_play.images import parse_size
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.open import open_here
from scope_play.serve.config import ServeConfig
from scope_play.serve.run import serve
from scope_play.session.interfaces import SessionLike, WorldLike

MARK = 16
"""Side of the mark in pixels: a macroblock, so that no neighbour shines in."""

BUTTON = "south"

OUTSIDE = ("MainThread", "film", "recorder", "asyncio", "AnyIO")
"""Threads that do not compute the model: sockets, encoders, files. The model's libraries have more than its own."""


class Marked:
    """A world whose frames carry the mark; everything else is as it was."""

    def __init__(self, world: WorldLike) -> None:
        self._world = world
        self.spec, self.identity = world.spec, world.identity

    def start(self, image: Any = None, prompt: str | None = None, seed: int = 0) -> SessionLike:
        session = self._world.start(image, prompt, seed)
        step, column = session.step, BUTTONS.index(BUTTON)

        def marked(actions: np.ndarray, **options: Any) -> Any:
            chunk = step(actions, **options)
            for frame, row in zip(chunk.frames, actions, strict=True):
                frame[:MARK, :MARK] = 255 if row[column] else 0
            return chunk

        session.step = marked  # type: ignore[method-assign]
        return session


def _answer() -> None:
    for _ in sys.stdin:
        used = 0.0
        for thread in threading.enumerate():
            if thread.name.startswith(OUTSIDE) and thread.ident is not None:
                used += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        print("cpu", json.dumps([time.process_time(), used]), flush=True)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seats", type=int, default=2)
    parser.add_argument("--size", help="of the simulator's picture")
    args = parser.parse_args()
    size = parse_size(args.size, "HEIGHTxWIDTH") if args.size else None

    def open_marked(request: LoadRequest) -> WorldLike:
        return Marked(open_here(request))

    threading.Thread(target=_answer, daemon=True).start()
    token = os.environ.pop("SCOPE_PLAY_TOKEN")
    config = ServeConfig(port=0, seats=args.seats, hold=1.0)
    return serve(LoadRequest(args.model, size=size), config, token, lambda line: print(line, flush=True), open_marked)


if __name__ == "__main__":
    sys.exit(main())
