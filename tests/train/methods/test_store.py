"""The checkpoints of sharded trainings: whole or absent, whenever the process dies."""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.train.checkpoint import checkpoints
from scope_play.train.parallel import store as store_module
from scope_play.train.parallel.ranks import Ranks
from scope_play.train.parallel.store import DistributedStore


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_thirty_kills_while_saving(tmp_path: Path) -> None:
    draw, store = random.Random(0), DistributedStore(Ranks.alone())
    like, step = {"x": torch.zeros(200, 50)}, 0
    for _ in range(30):
        child = os.fork()
        if child == 0:  # saves until it is killed
            while True:
                step += 1
                store.save(tmp_path, step, {"x": torch.full((200, 50), float(step))}, {"step": step})
        while len(checkpoints(tmp_path)) == 0:
            os.sched_yield()
        threading.Event().wait(draw.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found, tensors, values = store.load(tmp_path, like, pytest.fail)
        assert (tensors["x"] == found).all()
        assert values == {"step": found}
        assert found >= step
        step = found


def test_the_last_three_are_kept_and_a_damaged_one_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    store, said = DistributedStore(Ranks.alone()), []
    for step in range(1, 6):
        store.save(tmp_path, step, {"x": torch.full((4,), float(step))}, {})
    store.settle()
    assert [path.name[-1] for path in checkpoints(tmp_path)] == ["3", "4", "5"]
    for file in (tmp_path / "checkpoint-00000005").glob("*.distcp"):
        file.write_bytes(b"short")
    step, tensors, _ = store.load(tmp_path, {"x": torch.zeros(4)}, said.append)
    assert (step, tensors["x"].tolist()) == (4, [4.0] * 4)
    assert "checkpoint-00000005 is damaged" in said[0]
    with pytest.raises(ScopeError, match="holds no checkpoint"):
        store.load(tmp_path / "nowhere", {})


def test_what_is_saved_may_change_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written beside the next steps: nothing is whole before the write goes on, and then it is what was given."""
    go_on, store = threading.Event(), DistributedStore(Ranks.alone())
    publish = store_module._publish

    def late(written: Future[None], *rest: Any) -> None:
        assert go_on.wait(60)
        publish(written, *rest)

    monkeypatch.setattr(store_module, "_publish", late)
    x = torch.arange(1000.0)
    store.save(tmp_path, 7, {"x": x}, {})
    x.zero_()
    assert checkpoints(tmp_path) == []
    go_on.set()
    store.settle()
    step, tensors, _ = store.load(tmp_path, {"x": torch.empty(1000)}, pytest.fail)
    assert (step, tensors["x"].tolist()) == (7, list(range(1000)))
