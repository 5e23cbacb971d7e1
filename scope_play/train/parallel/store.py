"""Training state of sharded networks, by torch's distributed checkpoint: each rank writes its part, any number reads.

Written while the next steps are made: what is saved is copied to host memory first, and one save waits for the one
before. A checkpoint is a folder `checkpoint-<step>`, written as `.partial` and renamed when whole, as those of
`train.checkpoint`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.train.checkpoint import KEPT, checkpoints
from scope_play.train.parallel.ranks import Ranks

VALUES = "values.json"


class DistributedStore:
    """Saves and loads for all ranks together: every method is called by each of them."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        # Of its own, since what ranks say to each other while they write comes between what they say while they learn.
        self._group = torch.distributed.new_group(backend="gloo") if torch.distributed.is_initialized() else None
        self._publisher = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Any] | None = None

    def save(self, folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Returns once the state is copied. Raises what writing the one before has raised."""
        self.settle()
        final, partial = folder / f"checkpoint-{step:08d}", folder / f"checkpoint-{step:08d}.partial"
        if final.exists():
            return  # a step has one state, whoever saves it
        if self._ranks.leads:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._together()
        written = dcp.async_save(dict(tensors), checkpoint_id=partial, process_group=self._group)
        assert isinstance(written, Future)  # as torch gives it where it copies at once
        self._writing = written
        if self._ranks.leads:
            content = json.dumps({"step": step, "values": dict(values)})
            self._writing = self._publisher.submit(_publish, written, partial, final, content)

    def settle(self) -> None:
        """Waits until what was saved last is whole, on every rank."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
            self._together()

    def load(
        self, path: Path, like: Mapping[str, Tensor], report: Callable[[str], None] = print
    ) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
        """Step, tensors (sharded as `like`) and values of the newest readable checkpoint of a run folder.

        Raises ScopeError when there is none, or all are damaged.
        """
        found = checkpoints(path)
        if not found:
            raise ScopeError(f"{path} holds no checkpoint; give the --out folder of an earlier run")
        for folder in reversed(found):
            try:
                described = json.loads((folder / VALUES).read_text())
                tensors = {name: torch.empty_like(tensor) for name, tensor in like.items()}
                dcp.load(tensors, checkpoint_id=folder, no_dist=self._ranks.count == 1)
                return int(described["step"]), tensors, described["values"]
            except (OSError, ValueError, KeyError, RuntimeError, dcp.api.CheckpointException) as error:
                report(f"{folder} is damaged ({error}); going on from the one before it")
        raise ScopeError(f"all checkpoints in {path} are damaged; begin the training anew, in another folder")

    def _together(self) -> None:
        if self._ranks.count > 1:
            torch.distributed.barrier()


def _publish(written: Future[Any], partial: Path, final: Path, content: str) -> None:
    """On the leading rank, whose part is written last: what all have written becomes a checkpoint."""
    written.result()
    (partial / VALUES).write_text(content)
    for file in partial.iterdir():
        with file.open("rb+") as open_file:
            os.fsync(open_file.fileno())
    os.replace(partial, final)
    for old in checkpoints(final.parent)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
