"""Fetching checkpoints: what is missing, resumed where it stopped, and checked before it counts as there.

A folder of weights keeps `download.json`, which says for every file its size and, where published, its SHA-256; so
the folder can be checked later without the network.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.files import replacing, user_folder
from scope_play.weights.catalog import CATALOG, Checkpoint
from scope_play.weights.hashing import HashCache, sha256_of_file
from scope_play.weights.jsons import read_json_object

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST = "download.json"
PARTS = ".download"
SPARE_BYTES = 1 << 30
"""Left free on the disk beyond what is downloaded."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a checkpoint: path in its folder, size in bytes, SHA-256; None where it is not published."""

    path: str
    nbytes: int | None
    sha256: str | None


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
        except (KeyError, TypeError) as error:
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


def connect() -> HfApi:
    """The Hub, or the mirror that HF_ENDPOINT names."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def ask_hub(api: HfApi, checkpoint: Checkpoint) -> Manifest:
    """What the repository holds of the checkpoint's files now, with sizes and hashes.

    Raises:
        ScopeError: the checkpoint is not on the Hub, the Hub cannot be reached, or a file is not in the repository.
    """
    if checkpoint.repository is None:
        raise ScopeError(f"{checkpoint.name} comes with the package; there is nothing to download.")
    with network_errors(checkpoint.repository):
        info = api.model_info(checkpoint.repository, revision=checkpoint.revision, files_metadata=True)
    published = {entry.rfilename: entry for entry in info.siblings or []}
    absent = [file.path for file in checkpoint.files if file.path not in published]
    if absent:
        raise ScopeError(
            f"{checkpoint.repository} has no {', '.join(absent)}; this version of scope-play may be too old for it."
        )
    files = []
    for file in checkpoint.files:
        entry = published[file.path]
        lfs = entry.lfs
        files.append(RemoteFile(file.path, file.nbytes or entry.size, file.sha256 or (lfs.sha256 if lfs else None)))
    return Manifest(checkpoint.name, checkpoint.repository, info.sha or "main", tuple(files))


def fault(folder: Path, file: RemoteFile, hashes: HashCache) -> str | None:
    """What is wrong with a file of a downloaded folder: None if nothing."""
    path = folder / file.path
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if file.nbytes is not None and size != file.nbytes:
        return f"{size} bytes instead of {file.nbytes}"
    if file.sha256 is not None and hashes.sha256(path) != file.sha256:
        return "damaged: its SHA-256 is another"
    return None


def check_space(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raises ScopeError when the disk cannot hold what is still to come."""
    needed = sum((file.nbytes or 0) - part_size(folder, file) for file in files)
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
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


def fetch(api: HfApi, manifest: Manifest, file: RemoteFile, folder: Path) -> None:
    """Downloads one file, going on where an earlier attempt stopped, checks it, and puts it in its place.

    Raises:
        ScopeError: the network failed (what has arrived is kept), the file cannot be written, or it is not the one
            that was published (it is removed).
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download 2.x keeps no part of a file for the next run
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    part, target = part_path(folder, file), folder / file.path
    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(manifest.repository, file.path, revision=manifest.revision, endpoint=api.endpoint)
    with WeakFileLock(part.with_suffix(".lock")):
        if file.nbytes is not None and part_size(folder, file) > file.nbytes:
            part.unlink()
        with network_errors(manifest.repository), part.open("ab") as out:
            http_get(
                url,
                out,
                resume_size=part_size(folder, file),
                headers=build_hf_headers(),
                expected_size=file.nbytes,
                displayed_filename=file.path,
            )
        if file.sha256 is not None and sha256_of_file(part) != file.sha256:
            part.unlink()
            raise ScopeError(f"{file.path} arrived damaged and was removed; download it again.")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)


@contextmanager
def network_errors(repository: str) -> Iterator[None]:
    """Turns what the Hub's client raises into one sentence."""
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ScopeError(
            f"{repository} asks for consent first; give it on the Hub's website, then run `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ScopeError(f"{repository} is not on the Hub, or not for you; log in with `hf auth login`.") from error
    except (HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ScopeError(
            f"{repository} could not be downloaded ({reason[0] if reason else type(error).__name__}); run the same "
            f"command again, and it goes on where it stopped."
        ) from error
