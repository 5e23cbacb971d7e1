"""Training state on disk: safetensors files of bounded size, complete or absent, never half written.

A checkpoint is a folder `checkpoint-<step>` with `state.json` (the index and plain values) beside
`state-<n>.safetensors`. It is written as `checkpoint-<step>.partial`, flushed to the disk and renamed when whole; only
then are those before the last `KEPT` removed. Tensors above the limit are cut along their first axis.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scope_play.errors import ScopeError

FILE_LIMIT = 15 * 10**6
KEPT = 3
_NAME = re.compile(r"checkpoint-(\d+)$")


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], limit: int = FILE_LIMIT
) -> Path:
    """Writes `tensors` and the JSON-able `values` as the checkpoint of `step`, in files of at most `limit` bytes."""
    final = folder / f"checkpoint-{step:08d}"
    if final.exists():
        return final  # a step has one state, whoever saves it
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    groups = _split(tensors, limit - 64 * 1024)
    for number, group in enumerate(groups):
        save_file(group, partial / f"state-{number:03d}.safetensors")
    index = {"step": step, "files": len(groups), "values": dict(values)}
    (partial / "state.json").write_text(json.dumps(index))
    for file in partial.iterdir():
        with file.open("rb+") as written:
            os.fsync(written.fileno())
    os.replace(partial, final)
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(path: Path, report: Callable[[str], None] = print) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Step, tensors and values of the newest readable checkpoint in a run folder, or of the checkpoint folder itself.

    `report` is told of one that is damaged. Raises ScopeError when there is none, or all are damaged.
    """
    found = [path] if _NAME.search(path.name) else checkpoints(path)
    if not found:
        raise ScopeError(f"{path} holds no checkpoint; give the --out folder of an earlier run")
    while True:
        folder = found.pop()
        try:
            return _read(folder)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            damage = f"{folder} is damaged ({error})"
            if not found:
                raise ScopeError(f"{damage}; begin the training anew, in another folder") from error
            report(f"{damage}; going on from the one before it")


class FileStore:
    """`save` and `load` of one process, as a run asks for them."""

    def save(self, folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Path:
        return save(folder, step, tensors, values)

    def settle(self) -> None:
        """`save` returns when all is whole."""

    def load(
        self, path: Path, like: Mapping[str, Tensor], report: Callable[[str], None] = print
    ) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
        return load(path, report)


def _read(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    index = json.loads((folder / "state.json").read_text())
    pieces: dict[str, Tensor] = {}
    for number in range(index["files"]):
        pieces |= load_file(folder / f"state-{number:03d}.safetensors")
    return int(index["step"]), _join(pieces), index["values"]


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a run folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if _NAME.search(child.name))


def _split(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    groups: list[dict[str, Tensor]] = [{}]
    room = limit
    for name, tensor in tensors.items():
        for key, piece in _pieces(name, tensor.detach().cpu(), limit):
            if piece.nbytes > room and groups[-1]:
                groups.append({})
                room = limit
            groups[-1][key] = piece.contiguous().clone()
            room -= piece.nbytes
    return groups


def _pieces(name: str, tensor: Tensor, limit: int) -> list[tuple[str, Tensor]]:
    if tensor.nbytes <= limit or tensor.ndim == 0:
        return [(name, tensor)]
    rows = max(1, limit // (tensor.nbytes // len(tensor)))
    return [(f"{name}@{number:04d}", piece) for number, piece in enumerate(tensor.split(rows))]


def _join(pieces: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {}
    for key in sorted(pieces):
        name, _, number = key.partition("@")
        if number:
            parts.setdefault(name, []).append(pieces[key])
        else:
            whole[name] = pieces[key]
    return whole | {name: torch.cat(group) for name, group in parts.items()}
