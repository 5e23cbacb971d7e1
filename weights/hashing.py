"""SHA-256 of weight files, remembered by size and modification time: hashing 29 GB takes a minute."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import replacing, user_folder

BLOCK_BYTES = 4 * 2**20


def sha256_of_file(path: Path) -> str:
    """The file's SHA-256, in hexadecimal. Raises ScopeError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise ScopeError(f"{path} cannot be read ({error.strerror}); check that it exists and is yours.") from error
    return digest.hexdigest()


def sha256_of_all(hashes: Mapping[str, str]) -> str:
    """One SHA-256 that stands for a set of files: of their sorted names and hashes."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _key(file: Path, status: os.stat_result) -> str:
    return f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"


class HashCache:
    """Remembers hashes of files that have not changed since, in a JSON file; by default in the user's cache folder."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            path = user_folder("cache") / "hashes.json"
        self._path = path

    def sha256(self, file: Path) -> str:
        """As `sha256_of_file`, from memory where possible. A cache that cannot be written only costs time."""
        try:
            status = file.stat()
        except OSError as error:
            raise ScopeError(f"{file} cannot be read ({error.strerror}); check that it exists and is yours.") from error
        key = _key(file, status)
        known = self._read()
        if key not in known:
            known[key] = sha256_of_file(file)
            self.remember(file, known[key])
        return known[key]

    def remember(self, file: Path, digest: str) -> None:
        """Store a hash that was computed elsewhere, for the file as it is now."""
        with suppress(ScopeError, OSError):
            known = self._read() | {_key(file, file.stat()): digest}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as beside:
                beside.write_text(json.dumps(known, indent=1), encoding="utf-8")

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
