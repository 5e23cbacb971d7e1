"""Two processes learn what one learns, and a training goes on with another number of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.methods.ranks_user import train

ROOT = Path(__file__).parents[3]


def run(count: int, folder: Path, steps: int, kind: str, *resume: Path) -> list[float]:
    """The losses that the leading one of `count` processes tells; one is this process."""
    if count == 1:
        return train(folder, steps, kind, *resume)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "tests.train.methods.ranks_user", folder, steps, kind, *resume]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, **place, **where}
        started.append(subprocess.Popen(list(map(str, words)), env=environment, cwd=ROOT, **pipes))
    said = [process.communicate(timeout=240) for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(error for _, error in said)
    return json.loads(said[0][0].splitlines()[-1])


@pytest.mark.parametrize(("kind", "steps"), [("full", 20), ("lora", 20), ("dmd", 4)])
def test_two_processes_equal_one(tmp_path: Path, kind: str, steps: int) -> None:
    alone, together = run(1, tmp_path / "one", steps, kind), run(2, tmp_path / "two", steps, kind)
    assert len(alone) == len(together) == steps
    assert together == pytest.approx(alone, rel=1e-5)
    if kind != "dmd":
        assert alone[-1] < alone[0]


def test_two_processes_in_bfloat16_learn_what_one_does(tmp_path: Path) -> None:
    """Master weights stay float32: what differs is the rounding of products."""
    alone, together = run(1, tmp_path / "one", 4, "full"), run(2, tmp_path / "two", 4, "bf16")
    assert together == pytest.approx(alone, rel=0.03)
    assert together != pytest.approx(alone, rel=1e-5)


def test_a_training_goes_on_with_one_process_and_again_with_two(tmp_path: Path) -> None:
    whole = run(1, tmp_path / "whole", 9, "full")
    first = run(2, tmp_path / "a", 3, "full")
    second = run(1, tmp_path / "b", 6, "full", tmp_path / "a")
    third = run(2, tmp_path / "c", 9, "full", tmp_path / "b")
    assert first + second + third == pytest.approx(whole, rel=1e-5)
