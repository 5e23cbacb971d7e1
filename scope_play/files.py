"""Writing so that a failure never costs what was there: write beside, then rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scope_play.errors import ScopeError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a fresh path in the same folder, of the same suffix, that replaces `path` if the body succeeds.

    The file is flushed to the disk before it is renamed, so after a crash `path` is the old file or the whole new one.

    Raises:
        ScopeError: the folder does not exist or the body could not write there.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ScopeError(f"{target} cannot be written because {target.parent} is not a folder; create it first.")
    beside = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield beside
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
            raise ScopeError(f"{path} exists already; {mend}.")
