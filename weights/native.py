"""Folders in this project's own format: `config.json`, `world.safetensors` (the DiT) and `codec.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import nn

from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.weights.checkpoint import Progress, load_into
from scope_play.weights.hashing import HashCache, sha256_of_all
from scope_play.weights.jsons import read_json_object
from scope_play.weights.sources import SafetensorsSource

CONFIG = "config.json"
WORLD = "world.safetensors"
CODEC = "codec.safetensors"

M = TypeVar("M", bound=nn.Module)


class NativeFolder:
    """An opened native folder: its `config` as read, and its networks, loaded when they are asked for."""

    def __init__(self, path: Path, config: Mapping[str, Any], world_folder: Path | None = None) -> None:
        """`world_folder` holds the world's weights, if the folder's codec is another one for the same world."""
        self.path = path
        self.config = config
        self._files = {CONFIG: path / CONFIG, WORLD: (world_folder or path) / WORLD, CODEC: path / CODEC}

    def world(
        self,
        build: Callable[[], M],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> M:
        """The network that `build` makes from the config, filled strictly from `world.safetensors`."""
        return load_into(build, self._source(WORLD), dtype=dtype, device=device, progress=progress)

    def codec(
        self,
        build: Callable[[], M],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> M:
        """The network that `build` makes from the config, filled strictly from `codec.safetensors`."""
        return load_into(build, self._source(CODEC), dtype=dtype, device=device, progress=progress)

    def hashes(self, cache: HashCache | None = None) -> dict[str, str]:
        """SHA-256 of the three files, by name."""
        cache = cache or HashCache()
        return {name: cache.sha256(path) for name, path in self._files.items()}

    def sha256(self, cache: HashCache | None = None) -> str:
        """One hash for the whole folder."""
        return sha256_of_all(self.hashes(cache))

    def _source(self, name: str) -> SafetensorsSource:
        path = self._files[name]
        return SafetensorsSource(path, [path])


def open_native_folder(path: str | Path, world_folder: Path | None = None) -> NativeFolder:
    """Open a native folder and check that it is complete, without loading any weights.

    The world's weights are read from `world_folder`, if it is given.

    Raises:
        ScopeError: names the file that is missing or damaged.
    """
    folder = Path(path)
    places = {CONFIG: folder, WORLD: world_folder or folder, CODEC: folder}
    missing = [name for name, place in places.items() if not (place / name).is_file()]
    if missing:
        raise ScopeError(f"{places[missing[0]]} lacks {', '.join(missing)}; export or download the model again.")
    opened = NativeFolder(folder, read_json_object(folder / CONFIG), world_folder)
    for name in (WORLD, CODEC):
        if not opened._source(name).tensors:
            raise ScopeError(f"{places[name] / name} holds no tensors; export or download the model again.")
    return opened


def write_native_folder(
    path: str | Path, config: Mapping[str, Any], world: nn.Module, codec: nn.Module, dtype: torch.dtype
) -> None:
    """Write a native folder with the weights stored as `dtype`; each file replaces an earlier one only when whole.

    Raises:
        ScopeError: a file cannot be written, or a weight is not finite.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    packed = {}
    for name, module in ((WORLD, world), (CODEC, codec)):
        state = {key: tensor.detach().to("cpu").float() for key, tensor in module.state_dict().items()}
        broken = [key for key, tensor in state.items() if not tensor.isfinite().all()]
        if broken:
            raise ScopeError(f"{name}: tensor {broken[0]!r} is not finite, so nothing was written; train it again.")
        packed[name] = {key: tensor.to(dtype).contiguous() for key, tensor in state.items()}
    for name, tensors in packed.items():
        with replacing(folder / name) as beside:
            save_file(tensors, beside)
    with replacing(folder / CONFIG) as beside:
        beside.write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
