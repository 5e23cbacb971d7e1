"""Fetching a known checkpoint from the Hugging Face Hub: resumed where it stopped, and verified before it is used."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from scope_play.errors import ScopeError
from scope_play.weights.catalog import Checkpoint
from scope_play.weights.hashing import HashCache, sha256_of_file

Progress = Callable[[str, int, int], None]
"""Called with ("download", bytes done, bytes in all)."""

WANTED = ("model-*.safetensors", "model.safetensors.index.json", "SCOPE.safetensors", "*.pth", "google/umt5-xxl/*")
"""Which files of a repository are weights that this project reads."""

SPARE_BYTES = 256 * 2**20
"""Disk space to leave free."""


@dataclass(frozen=True)
class RemoteFile:
    """One file on the Hub. `sha256` is None for small files, which the Hub does not hash that way."""

    path: str
    nbytes: int
    sha256: str | None


@dataclass(frozen=True)
class RemoteFolder:
    """The wanted files of a repository at one commit."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]


def download_checkpoint(
    checkpoint: Checkpoint,
    folder: str | Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
    cache: HashCache | None = None,
) -> RemoteFolder:
    """Complete `folder` with the checkpoint's files. Whole files are kept, partial ones go on where they stopped.

    Args:
        checkpoint: an entry of the catalog with a repository.
        revision: branch, tag or commit; by default the catalog's.
        endpoint: another server than huggingface.co.

    Raises:
        ScopeError: the server cannot be reached or does not have the files, the disk is too small, or a file arrived
            damaged (it is then not kept).
    """
    if checkpoint.repository is None:
        raise ScopeError(f"{checkpoint.name} comes with the package; there is nothing to download.")
    target, cache, report = Path(folder), cache or HashCache(), progress or (lambda *_: None)
    remote = list_remote(checkpoint.repository, revision or checkpoint.revision, endpoint)
    expected = {file.path: _expected_hash(file, checkpoint) for file in remote.files}
    absent = [
        file for file in remote.files if not is_complete(target / file.path, file.nbytes, expected[file.path], cache)
    ]
    check_space(target, sum(file.nbytes - _size(_partial(target, file, remote)) for file in absent))
    total, done = sum(file.nbytes for file in absent), 0
    for file in absent:
        partial = _partial(target, file, remote)
        _fetch(remote, file, partial, endpoint, functools.partial(_report, report, done, total))
        _put_in_place(partial, target / file.path, expected[file.path], cache)
        done += file.nbytes
    return remote


def verify_files(checkpoint: Checkpoint, folder: str | Path, cache: HashCache | None = None) -> int:
    """Compare the files whose hash the catalog knows, without the network; returns how many there are.

    Raises:
        ScopeError: names the first file that is missing or differs.
    """
    cache = cache or HashCache()
    known = [file for file in checkpoint.files if file.sha256 is not None]
    for file in known:
        path = Path(folder) / file.path
        if not path.is_file():
            raise ScopeError(f"{path} is missing; complete it with: scope-play download {checkpoint.name}")
        if (found := cache.sha256(path)) != file.sha256:
            raise ScopeError(
                f"{path} has sha256 {found[:12]}... instead of {str(file.sha256)[:12]}...; "
                f"replace it with: scope-play download {checkpoint.name}"
            )
    return len(known)


def list_remote(repository: str, revision: str | None, endpoint: str | None) -> RemoteFolder:
    """The wanted files of a repository. Raises ScopeError when it cannot be reached or has none."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        info = HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
    except (HTTPError, OSError) as error:
        raise ScopeError(f"{repository} could not be looked up ({_first_line(error)}); check the network.") from error
    files = tuple(
        RemoteFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in info.siblings or []
        if is_wanted(sibling.rfilename)
    )
    if not files or info.sha is None:
        raise ScopeError(f"{repository} holds no files that this project reads; check its name and revision.")
    return RemoteFolder(repository, info.sha, files)


def is_wanted(path: str) -> bool:
    """Whether a path in a repository is a weight or tokenizer file, and stays within the folder it is put into."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path:
        return False
    return any(fnmatch(path, pattern) and path.count("/") == pattern.count("/") for pattern in WANTED)


def is_complete(path: Path, nbytes: int, sha256: str | None, cache: HashCache) -> bool:
    """Whether the file is there in full and, where its hash is known, unchanged."""
    if not path.is_file() or path.stat().st_size != nbytes:
        return False
    return sha256 is None or cache.sha256(path) == sha256


def check_space(folder: Path, needed: int) -> None:
    """Raise ScopeError, with both numbers, when `needed` bytes do not fit on the disk of `folder`."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > 0 and needed + SPARE_BYTES > free:
        raise ScopeError(
            f"{folder} needs {needed / 1e9:.1f} GB more but only {free / 1e9:.1f} GB are free on that disk; "
            f"choose another folder with --to."
        )


def _expected_hash(file: RemoteFile, checkpoint: Checkpoint) -> str | None:
    """The catalog's hash where it has one: a server that was tampered with cannot change it."""
    known = {entry.path: entry.sha256 for entry in checkpoint.files}
    return known.get(file.path) or file.sha256


def _report(report: Progress, before: int, total: int, nbytes: int) -> None:
    report("download", before + nbytes, total)


def _partial(folder: Path, file: RemoteFile, remote: RemoteFolder) -> Path:
    """Where a file grows until it is whole; its name tells contents apart, so that none is continued with another's."""
    path = folder / file.path
    return path.with_name(f"{path.name}.{(file.sha256 or remote.commit)[:12]}.partial")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(
    remote: RemoteFolder, file: RemoteFile, partial: Path, endpoint: str | None, report: Callable[[int], None]
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from tqdm import tqdm

    class Meter(tqdm):
        """Reports bytes instead of drawing a bar."""

        def __init__(self, *args: object, initial: int = 0, **kwargs: object) -> None:
            super().__init__(disable=True)
            self.done = initial

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            report(self.done)

    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab" if _size(partial) <= file.nbytes else "wb") as growing:
            http_get(
                hf_hub_url(remote.repository, file.path, revision=remote.commit, endpoint=endpoint),
                growing,
                resume_size=growing.tell(),
                headers=build_hf_headers(),
                expected_size=file.nbytes,
                tqdm_class=Meter,
            )
    except (HTTPError, OSError) as error:
        raise ScopeError(
            f"{file.path} could not be downloaded to {partial.parent} ({_first_line(error)}); "
            f"run the same command again to go on from here."
        ) from error


def _put_in_place(partial: Path, path: Path, expected: str | None, cache: HashCache) -> None:
    """Check a whole file, and only then let it replace what is there."""
    digest = sha256_of_file(partial)
    if expected is not None and digest != expected:
        partial.unlink()
        raise ScopeError(f"{path} arrived damaged and was not kept; run the same command again.")
    os.replace(partial, path)
    cache.remember(path, digest)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
