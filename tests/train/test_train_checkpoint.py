"""Checkpoints: bounded files, nothing half written, one sentence for damage."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.train import checkpoint


def test_round_trip_in_bounded_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "large": torch.randn(300, 257),
        "small": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "b": torch.randn(40, 40),
    }
    folder = checkpoint.save(tmp_path, 7, tensors, {"kind": "x"}, limit=150_000)
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    assert len(sizes) > 2
    assert max(sizes) <= 150_000
    step, loaded, values = checkpoint.load(tmp_path)
    assert (step, values) == (7, {"kind": "x"})
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_newest_wins_and_the_last_three_stay(tmp_path: Path) -> None:
    for step in (2, 10, 11, 30):
        checkpoint.save(tmp_path, step, {"x": torch.tensor(step)}, {})
    kept = [f"checkpoint-{step:08d}" for step in (10, 11, 30)]
    assert sorted(child.name for child in tmp_path.iterdir()) == kept
    assert checkpoint.load(tmp_path)[1]["x"] == 30


def test_a_damaged_newest_gives_the_one_before_and_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": torch.tensor(step)}, {})
    for name, content in (("state-000.safetensors", b"short"), ("state.json", b"[]"), ("state.json", b"\xff{")):
        said: list[str] = []
        (tmp_path / "checkpoint-00000002" / name).write_bytes(content)
        assert checkpoint.load(tmp_path, said.append)[0] == 1
        assert "checkpoint-00000002 is damaged" in said[0]


def test_thirty_kills_while_saving(tmp_path: Path) -> None:
    """Whenever the process dies, the newest checkpoint or the one before loads, and holds its own step."""
    draw = random.Random(0)
    step = 0
    for _ in range(30):
        child = os.fork()
        if child == 0:  # saves until it is killed
            while True:
                step += 1
                checkpoint.save(tmp_path, step, {"x": torch.full((200, 50), float(step))}, {"step": step}, 20_000)
        while len(checkpoint.checkpoints(tmp_path)) == 0:
            os.sched_yield()
        threading.Event().wait(draw.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found, tensors, values = checkpoint.load(tmp_path, pytest.fail)
        assert (tensors["x"] == found).all()
        assert values == {"step": found}
        assert found >= step
        step = found


def test_interrupted_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, {"x": torch.tensor(1)}, {})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path, 2, {"x": torch.tensor(2)}, {})
    assert checkpoint.load(tmp_path)[0] == 1


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="no checkpoint"):
        checkpoint.load(tmp_path)
    folder = checkpoint.save(tmp_path, 1, {"x": torch.ones(9)}, {})
    (folder / "state-000.safetensors").write_bytes(b"short")
    with pytest.raises(ScopeError, match="checkpoint-00000001 is damaged"):
        checkpoint.load(tmp_path)
