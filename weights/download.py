"""Folders of downloaded checkpoints: where they are, what belongs into them, and what is wrong with them.

A folder of weights keeps `download.json`, which says for every file its size and, where published, its SHA-256; so
the folder can be checked later without the network.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import replacing, user_folder
from scope_play.weights.catalog import CATALOG
from scope_play.weights.hashing import HashCache
from scope_play.weights.jsons import read_json_object

MANIFEST = "download.json"
PARTS = ".download"
SPARE_BYTES = 1 << 30
"""Left free on the disk beyond what is downloaded."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a checkpoint: path in its folder, size in bytes, SHA-256; None where it is not published.

    repository, revision: where it is from, if not from where the others are.
    """

    path: str
    nbytes: int | None
    sha256: str | None
    repository: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a download consists of: a repository at one commit, and its files."""

    name: str
    repository: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def nbytes(self) -> int:
        return sum(file.nbytes or 0 for file in self.files)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises ScopeError if the folder has no valid manifest."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ScopeError(f"There is no {path}, so nothing was downloaded there; run it once without --offline.")
        values = read_json_object(path)
        try:
            files = tuple(RemoteFile(**file) for file in values["files"])
            return cls(values["name"], values["repository"], values["revision"], files)
        except (KeyError, TypeError, ValueError) as error:
            raise ScopeError(f"{path} is damaged ({error}); download again.") from error

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / MANIFEST) as beside:
            beside.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def checkpoint_folder(name: str) -> Path:
    """Where a checkpoint is downloaded to unless told otherwise."""
    return user_folder("data") / "weights" / name


def resolve_model(model: str | Path) -> str | Path:
    """The downloaded folder for a checkpoint's name, or the Hub's own cache of it; a folder, and nano, as they are."""
    checkpoint = CATALOG.get(str(model))
    if checkpoint is None or checkpoint.repository is None or Path(model).is_dir():
        return model
    folder = checkpoint_folder(checkpoint.name)
    cached = [] if folder.is_dir() else hub_snapshots(checkpoint.repository, checkpoint.revision)
    return cached[0] if cached else folder


def hub_snapshots(repository: str, revision: str | None = None) -> list[Path]:
    """What the Hub's client has of a repository in its cache, at `revision` or the branch last fetched."""
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(
        os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"), "hub"
    )
    folder = Path(os.path.expanduser(cache)) / f"models--{repository.replace('/', '--')}"
    head = folder / "refs" / "main"
    try:
        commits = [revision or head.read_text().strip()]
    except (OSError, UnicodeDecodeError):
        return []
    return [place for commit in commits if (place := folder / "snapshots" / commit).is_dir()]


def fault(folder: Path, file: RemoteFile, hashes: HashCache) -> str | None:
    """What is wrong with a file of a downloaded folder: None if nothing."""
    path = folder / file.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if file.nbytes is not None and size != file.nbytes:
        return f"{size} bytes instead of {file.nbytes}"
    if file.sha256 is not None and hashes.sha256(path) != file.sha256:
        return "damaged: its SHA-256 is another"
    return None


def check_space(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raises ScopeError when the disk cannot hold what is still to come."""
    needed = sum((file.nbytes or 0) - part_size(folder, file) for file in files)
    try:
        existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise ScopeError(
            f"{folder} cannot be looked at ({error.strerror}); choose another place with --dir."
        ) from error
    if files and needed + SPARE_BYTES > free:
        raise ScopeError(
            f"{folder} needs {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free; "
            f"free some space, or choose another disk with --dir."
        )


def part_path(folder: Path, file: RemoteFile) -> Path:
    """Where a file lies until it is whole; the name changes with its content, so that versions never mix."""
    version = (file.sha256 or str(file.nbytes))[:16]
    return folder / PARTS / f"{file.path.replace('/', '--')}.{version}.part"


def part_size(folder: Path, file: RemoteFile) -> int:
    part = part_path(folder, file)
    return part.stat().st_size if part.is_file() else 0
