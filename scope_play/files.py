"""Paths made plain once, writing that never costs what was there, and what may be replaced."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from scope_play.errors import ScopeError


@contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yields a fresh path in the same folder, of the same suffix, that replaces `path` if the body succeeds.

    The file is flushed to the disk before it is renamed, so after a crash `path` is the old file or the whole new one;
    without `sync` that holds only if the system does not crash, and nobody waits for the disk.

    Raises:
        ScopeError: the folder does not exist or the body could not write there.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ScopeError(f"{target} cannot be written because {target.parent} is not a folder; create it first.")
    beside = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield beside
        if sync:
            with beside.open("rb+") as written:
                os.fsync(written.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise ScopeError(
            f"{target} could not be written ({error.strerror or error}); free some space or choose another folder."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def require_free(*paths: Path, mend: str) -> None:
    """The one answer to what may be replaced: raises ScopeError naming the first of `paths` that is there already."""
    for path in paths:
        if os.path.lexists(path):
            raise ScopeError(f"{path} already exists; {mend}.")


def place(path: str | os.PathLike[str]) -> Path:
    """`path` as every library takes it: absolute, with `~` and `~user` filled in.

    A relative `session-08:15/video.mp4` is a protocol to FFmpeg and a URI to Arrow. Raises ScopeError for a user that
    is not there.
    """
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, ValueError, OSError) as error:
        raise ScopeError(f"{os.fspath(path)!r} is no path here ({error}); write it out from the root.") from error


def for_people(path: Path) -> str:
    """A path in a message: `~` for the home folder, and nothing that cannot be printed or drawn."""
    home = os.path.expanduser("~")
    text = os.fspath(path)
    if os.path.isabs(home) and path.is_relative_to(home):
        text = os.path.join("~", os.path.relpath(text, home))
    return text.encode("utf-8", "replace").decode("utf-8")


def user_folder(kind: Literal["config", "data", "cache", "videos", "pictures"]) -> Path:
    """Where this system keeps a user's files of that kind; a user without a home has the temporary folder."""
    import platformdirs

    name = () if kind in ("videos", "pictures") else ("scope-play",)
    try:
        found = Path(getattr(platformdirs, f"user_{kind}_path")(*name))
    except (RuntimeError, KeyError, OSError):
        found = Path()
    if not found.is_absolute():
        import tempfile

        found = Path(tempfile.gettempdir()) / f"scope-play-{kind}"
    return found if name else found / "scope-play"
