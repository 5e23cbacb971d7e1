"""Recordings exported as LeRobot datasets, for `lerobot_user.py`: python -m tests.neighbours.make_datasets FOLDER.

`short`: nano for eight seconds, with a rewind. `long`: an hour of a world that draws its frames' numbers, with forty.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scope_play import cli
from scope_play.world import World
from tests.helpers.fake_world import FakeWorld
from tests.helpers.recordings import record


def main(folder: Path) -> None:
    short = record(folder / "clips/short", 40, world=World.load("nano-96x160"), rewinds={20: 8}, prompt=None)
    chunks = 18_000
    every = chunks // 41
    long = record(
        folder / "clips/long", chunks, world=FakeWorld(seconds=0.003), rewinds={k * every: 1 for k in range(1, 41)}
    )
    for clip in (short, long):
        assert cli.main(["export", str(clip), "--out", str(folder / clip.parent.name)]) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
