"""Fetching checkpoints from the Hub: resumed where it stopped, and checked before a file counts as there."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_play.errors import ScopeError
from scope_play.progress import note
from scope_play.weights.catalog import CATALOG, CatalogFile, Checkpoint
from scope_play.weights.download import (
    Manifest,
    RemoteFile,
    checkpoint_folder,
    hub_snapshots,
    part_path,
    part_size,
)
from scope_play.weights.hashing import HashCache, sha256_of_file

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PAUSES = (1.0, 4.0, 15.0, 60.0)
"""Seconds before each further try when the Hub is busy or the line is down."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


def connect() -> HfApi:
    """The Hub, or the mirror that HF_ENDPOINT names."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "on", "yes", "true")


def ask_hub(api: HfApi, checkpoint: Checkpoint) -> Manifest:
    """What there is of the checkpoint's files now, with sizes and hashes.

    Raises:
        ScopeError: the checkpoint is not on the Hub, the Hub cannot be reached, or what nothing can be played without
            is neither there nor at the checkpoint that could serve instead.
    """
    if checkpoint.repository is None:
        raise ScopeError(f"{checkpoint.name} comes with the package; there is nothing to download.")
    revision, published = _listing(api, checkpoint)
    files: list[RemoteFile] = []
    absent = []
    for file in checkpoint.files:
        found = [name for name in sorted(published) if fnmatch.fnmatchcase(name, file.path)]
        if not found and file.or_else is not None and file.or_else in published:
            found = [file.or_else]
        if found:
            files += [_remote(file, name, published[name]) for name in found]
        elif file.instead is not None:
            files += _pinned(CATALOG[file.instead], file.path)
        elif file.required:
            absent.append(file.path)
    if absent:
        raise ScopeError(
            f"{checkpoint.repository} has no {', '.join(absent)}; this version of scope-play may be too old for it."
        )
    return Manifest(checkpoint.name, checkpoint.repository, revision, tuple(files))


def _listing(api: HfApi, checkpoint: Checkpoint) -> tuple[str, Mapping[str, Any]]:
    """(commit, path -> the Hub's record of the file)."""
    repository = checkpoint.repository or ""

    def ask() -> tuple[str, Mapping[str, Any]]:
        info = api.model_info(repository, revision=checkpoint.revision, files_metadata=True)
        return info.sha or "main", {entry.rfilename: entry for entry in info.siblings or []}

    return _patiently(repository, ask)


def _remote(file: CatalogFile, name: str, entry: Any) -> RemoteFile:
    lfs = entry.lfs
    return RemoteFile(name, file.nbytes or entry.size, file.sha256 or (lfs.sha256 if lfs else None))


def _pinned(checkpoint: Checkpoint, path: str) -> list[RemoteFile]:
    """The file of that path as another checkpoint has it, whose sizes and hashes are known here."""
    return [
        RemoteFile(file.path, file.nbytes, file.sha256, checkpoint.repository, checkpoint.revision)
        for file in checkpoint.files
        if file.path == path
    ]


def reuse(file: RemoteFile, folder: Path, repository: str, hashes: HashCache) -> Path | None:
    """Takes a file from where it was downloaded to before, by a link, if its published hash says that it is the same.

    Returns where it was.
    """
    if file.sha256 is None:
        return None
    places = [checkpoint_folder(name) for name in CATALOG]
    places += [place for name in (repository, file.repository) if name for place in hub_snapshots(name)]
    for place in places:
        known, target = place / file.path, folder / file.path
        if known == target or not known.is_file() or known.stat().st_size != (file.nbytes or known.stat().st_size):
            continue
        if hashes.sha256(known) == file.sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(known.resolve(), target)
            except OSError:
                target.symlink_to(known.resolve())
            hashes.remember(target, file.sha256)
            return known
    return None


def fetch(api: HfApi, manifest: Manifest, file: RemoteFile, folder: Path, hashes: HashCache) -> None:
    """Downloads one file, going on where an earlier attempt stopped, checks it, and puts it in its place.

    Raises:
        ScopeError: the network failed (what has arrived is kept), the file cannot be written, or it is not the one
            that was published (it is removed).
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download 2.x keeps no part of a file for the next run
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    part, target = part_path(folder, file), folder / file.path
    repository = file.repository or manifest.repository
    url = hf_hub_url(repository, file.path, revision=file.revision or manifest.revision, endpoint=api.endpoint)

    def get() -> None:
        if file.nbytes is not None and part_size(folder, file) > file.nbytes:
            part.unlink()
        with part.open("ab") as out:
            http_get(
                url,
                out,
                resume_size=part_size(folder, file),
                headers=build_hf_headers(),
                expected_size=file.nbytes,
                displayed_filename=file.path,
            )

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScopeError(f"{folder} cannot be written ({error.strerror}); choose another place with --dir.") from error
    with WeakFileLock(part.with_suffix(".lock")):
        if file.nbytes is None or part_size(folder, file) != file.nbytes:
            _patiently(repository, get)
        digest = sha256_of_file(part)
        if file.sha256 is not None and digest != file.sha256:
            part.unlink()
            raise ScopeError(f"{file.path} arrived damaged and was removed; download it again.")
        os.replace(part, target)
        hashes.remember(target, digest)


def _patiently(repository: str, action: Callable[[], Any]) -> Any:
    """What `action` returns, tried again for a while when the Hub is busy or the line is down."""
    for pause in PAUSES:
        with network_errors(repository):
            try:
                return action()
            except _passing() as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is not None and status not in BUSY:
                    raise
                note(f"{repository}: {_first_line(error)}; trying again in {pause:g} s")
                time.sleep(pause)
    with network_errors(repository):
        return action()


def _passing() -> tuple[type[BaseException], ...]:
    """What the Hub's client raises for what may pass, in its versions before and after 1.0."""
    from huggingface_hub import errors

    return (getattr(errors, "HTTPError", errors.HfHubHTTPError), errors.HfHubHTTPError, ConnectionError, TimeoutError)


def _failing() -> tuple[type[BaseException], ...]:
    return (*_passing(), OSError)


@contextmanager
def network_errors(repository: str) -> Iterator[None]:
    """Turns what the Hub's client raises into one sentence."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ScopeError(
            f"{repository} asks for consent first; give it on the Hub's website, then run `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ScopeError(f"{repository} is not on the Hub, or not for you; log in with `hf auth login`.") from error
    except _failing() as error:
        raise ScopeError(
            f"{repository} could not be downloaded ({_first_line(error)}); run the same command again, and it goes on "
            f"where it stopped."
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # an answer of another shape
        raise ScopeError(
            f"{repository}: the Hub's answer cannot be understood ({_first_line(error)}); try again later, or another "
            f"mirror with HF_ENDPOINT."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def without_optional(manifest: Manifest, checkpoint: Checkpoint, lost: RemoteFile) -> Manifest | None:
    """The manifest without a file that can be done without; None when it cannot."""
    optional = any(not file.required and fnmatch.fnmatchcase(lost.path, file.path) for file in checkpoint.files)
    return replace(manifest, files=tuple(file for file in manifest.files if file != lost)) if optional else None
