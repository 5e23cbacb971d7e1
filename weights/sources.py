"""Weight files as named tensors, read one at a time without ever running code from the file.

A source first tells names, shapes and dtypes from the file's header, then hands out the tensors. Both formats are
memory-mapped, and the mapping is renewed every `WINDOW_BYTES`, so that pages already copied out stop counting as
memory of this process. Source: SPEC.md section 7.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scope_play.errors import ScopeError

WINDOW_BYTES = 64 * 2**20

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
}
_WRAPPERS = ("state_dict", "module", "model_state")
# All that unpickling and rebuilding tensors from arbitrary bytes was seen to raise.
_PICKLE_FAULTS = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    OverflowError, MemoryError, ImportError, OSError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """What a header says about one tensor. `dtype` is None when it is no floating-point type."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize if self.dtype else 8
        return size * int(torch.Size(self.shape).numel())


class Source(Protocol):
    """Named tensors in one or several files."""

    @property
    def path(self) -> Path:
        """The file or folder to name in messages."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor in the files. Raises ScopeError for a damaged file."""

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor once, or those of `names`, on the CPU; each is valid only until the next is asked for."""


class SafetensorsSource:
    """One safetensors file, or the shards of one model."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = tuple(files)

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        found: dict[str, StoredTensor] = {}
        for file, header in self._headers.items():
            for name, stored in header.items():
                if name in found:
                    raise ScopeError(f"{file}: tensor {name!r} is also in another shard of {self.path}; keep one.")
                found[name] = stored
        return found

    @cached_property
    def _headers(self) -> Mapping[Path, Mapping[str, StoredTensor]]:
        return {file: _safetensors_header(file) for file in self.files}

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        for file, header in self._headers.items():
            for window in _windows(_chosen(header, names)):
                with _open_safetensors(file) as handle:
                    for name in window:
                        yield name, handle.get_tensor(name)


class PickleSource:
    """A `.pth` file holding a flat dict of tensors, bare or as the one entry of a wrapping dict.

    Only tensors and plain containers are ever unpickled (`weights_only`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return {
            name: StoredTensor(tuple(tensor.shape), tensor.dtype if tensor.is_floating_point() else None)
            for name, tensor in self._load().items()
        }

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        for window in _windows(_chosen(self.tensors, names)):
            loaded = self._load()
            for name in window:
                yield name, loaded[name]

    def _load(self) -> dict[str, Tensor]:
        try:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            mapped = zipfile.is_zipfile(self.path)
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)
        except FileNotFoundError as error:
            raise ScopeError(f"{self.path} does not exist; download it again.") from error
        except _PICKLE_FAULTS as error:
            raise ScopeError(
                f"{self.path} is damaged or holds more than tensors, so it was not loaded; "
                f"download it again from a source you trust."
            ) from error
        return _state_dict(content, self.path)


def open_source(file: Path) -> Source:
    """One weight file, by its suffix. Its content is not looked at yet."""
    return SafetensorsSource(file, [file]) if file.suffix == ".safetensors" else PickleSource(file)


def _chosen(header: Mapping[str, StoredTensor], names: Collection[str] | None) -> Mapping[str, StoredTensor]:
    return header if names is None else {name: stored for name, stored in header.items() if name in names}


def _safetensors_header(file: Path) -> dict[str, StoredTensor]:
    with _open_safetensors(file) as handle:
        header = {}
        for name in handle.keys():  # noqa: SIM118 - the handle is no mapping
            view = handle.get_slice(name)
            header[name] = StoredTensor(tuple(view.get_shape()), _DTYPES.get(str(view.get_dtype())))
        return header


def _open_safetensors(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise ScopeError(f"{file} does not exist; download it again.") from error
    except (SafetensorError, OSError) as error:
        raise ScopeError(f"{file} is no readable safetensors file ({error}); download it again.") from error


def _windows(header: Mapping[str, StoredTensor]) -> Iterator[list[str]]:
    """Names in groups to read under one mapping: tensors larger than a window first and alone, then by file order.

    Largest first, because a large tensor is for a moment there twice, which matters least while little else is loaded.
    """
    large = sorted((name for name in header if header[name].nbytes > WINDOW_BYTES), key=lambda n: -header[n].nbytes)
    yield from ([name] for name in large)
    group: list[str] = []
    room = WINDOW_BYTES
    for name, stored in header.items():
        if stored.nbytes > WINDOW_BYTES:
            continue
        if stored.nbytes > room:
            yield group
            group, room = [], WINDOW_BYTES
        group.append(name)
        room -= stored.nbytes
    if group:
        yield group


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and len(content) == 1:
        key = next(iter(content))
        if key in _WRAPPERS and isinstance(content[key], dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ScopeError(f"{path} holds a {type(content).__name__}, not a dict of tensors; give the released file.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout is not torch.strided:
            raise ScopeError(f"{path}: entry {str(name)[:80]!r} is not a plain tensor; give the released file.")
    return content
