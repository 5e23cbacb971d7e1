"""What the three trainings share: the run folder, the budget, the moving average, and the loop.

Every random draw of step n comes from a generator seeded with (seed, purpose, n), so a run has no random state to
lose: weights, optimiser, average and step number are the whole of it, and resuming repeats an unbroken run exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.interrupts import asked_to_stop
from scope_play.train.checkpoint import FileStore, checkpoints
from scope_play.train.parallel.ranks import Ranks

B = TypeVar("B")

PATIENCE = 100
"""Steps in a row that may be skipped."""


def seed_of(seed: int, purpose: str, step: int) -> int:
    """A 63-bit seed for the draws of one purpose in one step."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, purpose: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Draws of one purpose in one step; what is drawn differs from device to device."""
    return torch.Generator(device).manual_seed(seed_of(seed, purpose, step))


@dataclass(frozen=True)
class Budget:
    """When to stop: after `steps` in all, or after `minutes` of this process, whichever comes first."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ScopeError("a training needs an end: give --minutes or --steps")

    def spent(self, step: int, seconds: float) -> bool:
        too_late = self.minutes is not None and seconds >= 60 * self.minutes
        return too_late or (self.steps is not None and step >= self.steps)


class Average:
    """Exponential moving average of parameters; its memory grows with the run up to `decay`."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_([self.values[name] for name in parameters], list(parameters.values()), 1 - decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(values[name])


class Trainer(Protocol[B]):
    """One kind of training. `batch` runs ahead in a background thread; `update` changes the weights.

    A step whose gradients are not finite changes nothing, and says so by a metric that is not finite. `values` are what
    a run is made with, and "cooling": the first and last step of the falling rate, or None.
    """

    def batch(self, step: int) -> B: ...
    def update(self, batch: B, step: int) -> dict[str, float]: ...
    def state(self) -> dict[str, Tensor]: ...
    def load_state(self, tensors: Mapping[str, Tensor]) -> None: ...
    def values(self) -> dict[str, Any]: ...
    def validate(self) -> tuple[dict[str, float], np.ndarray]: ...
    def cool(self, first: int, last: int) -> None:
        """Let the learning rate fall to zero from the first to the last of these steps."""


class Store(Protocol):
    """Where a run's state lies: `train.checkpoint`, or a store that several processes share.

    What `save` is given may change once it returns; `settle` waits until it is whole.
    """

    def save(self, folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> object: ...
    def settle(self) -> None: ...
    def load(
        self, path: Path, like: Mapping[str, Tensor], report: Callable[[str], None]
    ) -> tuple[int, dict[str, Tensor], dict[str, Any]]: ...


class Run(Generic[B]):
    """A run folder: `metrics.jsonl`, `checkpoint-*`, `sheets/`, and the loop that fills them.

    `save_every` and `sheet_every` are seconds; without the latter nothing is validated. Of several processes one
    `leads`: it writes and tells, and when to stop and save is its word.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer[B],
        *,
        save_every: float = 120,
        sheet_every: float | None = 420,
        log_every: int = 10,
        report: Callable[[str], None] = print,
        store: Store | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.step = 0
        self.cooling: tuple[int, int] | None = None
        self._save_every, self._sheet_every, self._log_every = save_every, sheet_every, log_every
        self._ranks = ranks or Ranks.alone()
        self._report = report if self._ranks.leads else lambda text: None
        self._store = store or FileStore()
        (folder / "sheets").mkdir(parents=True, exist_ok=True)

    def resume(self, path: Path) -> None:
        """Go on from the newest checkpoint of `path`. Raises ScopeError where this run is made with other values."""
        step, tensors, values = self._store.load(path, self.trainer.state(), self._report)
        ours = json.loads(json.dumps(self.trainer.values()))
        for key in ("kind", "model", "recipe", "seed"):
            if key in values and values[key] != ours.get(key):
                raise ScopeError(
                    f"{path} was trained with another {key} ({values[key]}); give the same --{key} again, or begin a "
                    f"new run from its weights with --start"
                )
        try:
            self.trainer.load_state(tensors)
        except (KeyError, RuntimeError) as error:
            raise ScopeError(
                f"{path} was written by another kind or size of model ({error}); give its own --model"
            ) from error
        self.step = step
        if values.get("cooling"):
            self.cool(*values["cooling"])

    def cool(self, first: int, last: int) -> None:
        """Let the learning rate fall to zero from the first to the last of these steps."""
        self.cooling = first, last
        self.trainer.cool(first, last)

    def fit(self, budget: Budget) -> None:
        """Trains until the budget is spent, then saves.

        Ctrl-C and SIGTERM end the step that is being made, save, and raise KeyboardInterrupt; a second one does not
        wait. Raises ScopeError after `PATIENCE` steps in a row without a finite gradient.
        """
        begun = saved = shown = time.monotonic()
        recent: list[dict[str, float]] = []
        in_a_row = 0
        with ThreadPoolExecutor(1) as ahead, asked_to_stop() as stop:
            pending: Future[B] = ahead.submit(self.trainer.batch, self.step)
            while not self._ranks.agree(budget.spent(self.step, time.monotonic() - begun) or stop.is_set()):
                batch = pending.result()
                pending = ahead.submit(self.trainer.batch, self.step + 1)
                metrics = self.trainer.update(batch, self.step)
                self.step += 1
                if all(math.isfinite(value) for value in metrics.values()):
                    recent.append(metrics)
                    in_a_row = 0
                else:
                    in_a_row += 1
                    self._write({"step": self.step, "skipped": in_a_row})
                    if in_a_row == PATIENCE:
                        raise ScopeError(
                            f"{self.folder}: {PATIENCE} steps in a row had no finite gradient; go on from its last "
                            f"checkpoint with --resume and a smaller rate"
                        )
                now = time.monotonic()
                if self.step % self._log_every == 0 and recent:
                    self._log(recent, now - begun)
                    recent.clear()
                if self._ranks.agree(now - saved > self._save_every):
                    self.save()
                    saved = now
                if self._sheet_every is not None and now - shown > self._sheet_every:
                    self.show()
                    shown = now
            pending.cancel()
            self.save()
            self._store.settle()
            if stop.is_set():
                raise KeyboardInterrupt
        if self._sheet_every is not None:
            self.show()

    def save(self) -> None:
        self._store.save(self.folder, self.step, self.trainer.state(), self.trainer.values())

    def show(self) -> None:
        """Validates, logs the figures and keeps the contact sheet."""
        from PIL import Image

        figures, sheet = self.trainer.validate()
        Image.fromarray(sheet).save(self.folder / "sheets" / f"{self.step:08d}.png")
        self._write({"step": self.step, "validation": figures})

    def _log(self, recent: list[dict[str, float]], seconds: float) -> None:
        means = {key: float(np.mean([entry[key] for entry in recent])) for key in recent[0]}
        self._write({"step": self.step, "seconds": round(seconds, 1), **means})

    def _write(self, record: Mapping[str, Any]) -> None:
        if not self._ranks.leads:
            return
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **_rounded(record)})
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")
        self._report(line)


def require_no_run(folder: Path) -> None:
    """Raises ScopeError where `folder` holds a training, which a new one must not replace."""
    found = checkpoints(folder)
    if found:
        raise ScopeError(
            f"{folder} holds a training, {found[-1].name}; go on with --resume {folder}, or choose another --out"
        )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors named `prefix/...`, without the prefix."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
