"""Training state on disk: safetensors files of bounded size, complete or absent, never half written.

A checkpoint is a folder `checkpoint-<step>` with `state.json` (the index and plain values) beside
`state-<n>.safetensors`. It is written as `checkpoint-<step>.partial` and renamed when whole; only then is the one
before it removed. Tensors above the limit are cut along their first axis.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scope_play.errors import ScopeError

FILE_LIMIT = 15 * 10**6
_NAME = re.compile(r"checkpoint-(\d+)$")


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], limit: int = FILE_LIMIT
) -> Path:
    """Writes `tensors` and the JSON-able `values` as the checkpoint of `step`, in files of at most `limit` bytes."""
    final = folder / f"checkpoint-{step:08d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    groups = _split(tensors, limit - 64 * 1024)
    for number, group in enumerate(groups):
        save_file(group, partial / f"state-{number:03d}.safetensors")
    index = {"step": step, "files": len(groups), "values": dict(values)}
    (partial / "state.json").write_text(json.dumps(index))
    earlier = _all(folder)
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)
    for old in earlier:
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Step, tensors and values of the newest checkpoint in a run folder, or of the checkpoint folder itself."""
    found = [path] if _NAME.search(path.name) else _all(path)
    if not found:
        raise ScopeError(f"{path} holds no checkpoint; give the --out folder of an earlier run")
    newest = found[-1]
    try:
        index = json.loads((newest / "state.json").read_text())
        pieces: dict[str, Tensor] = {}
        for number in range(index["files"]):
            pieces |= load_file(newest / f"state-{number:03d}.safetensors")
    except (OSError, json.JSONDecodeError, KeyError, SafetensorError) as error:
        raise ScopeError(f"{newest} is damaged ({error}); remove that folder to use the one before it") from error
    return int(index["step"]), _join(pieces), index["values"]


def _all(folder: Path) -> list[Path]:
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
