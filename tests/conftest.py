"""What holds for all tests, and what several rooms of them share."""

from __future__ import annotations

import os

# Networks of this size gain nothing from a second thread, and threads that wait for each other on a busy machine cost
# minutes. Read when torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch import Tensor

from scope_play.model.nano_codec.codec import NanoCodec


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on a Ray cluster run only where they are asked for by name: they start fourteen processes."""
    if "ray" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("ray")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("ray")]


@pytest.fixture
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start images are taken for what nano's finder says of them: looking more closely (`fit_pose`) takes longer than
    a training step or some chunks of play."""

    def found(codec: NanoCodec, frames: Tensor) -> tuple[Tensor, Tensor]:
        return codec.found(frames), torch.zeros(len(frames))

    monkeypatch.setattr("scope_play.model.nano_codec.codec.fit_pose", found)
