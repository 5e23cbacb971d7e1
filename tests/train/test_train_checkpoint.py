"""Checkpoints: bounded files, nothing half written, one sentence for damage."""

from __future__ import annotations

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


def test_newest_wins_and_older_goes(tmp_path: Path) -> None:
    for step in (2, 10):
        checkpoint.save(tmp_path, step, {"x": torch.tensor(step)}, {})
    assert [child.name for child in tmp_path.iterdir()] == ["checkpoint-00000010"]
    assert checkpoint.load(tmp_path)[1]["x"] == 10


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
