"""Who writes a recording: a lock that dies with its process, and where that process runs.

A process number and a clock say little: in a container, from another machine on a share, or after the clock was set,
a live writer looks dead. So the recorder holds a lock beside the folder for as long as it writes; whoever wants the
folder must get that lock, and, where a lock may not reach (another machine), leaves the folder as it is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from scope_play.errors import ScopeError

SAME_START = 60.0
"""Seconds by which two readings of one process's start may differ: the clock may have been set between them."""


@dataclass(frozen=True)
class Writer:
    """A process: its number and start time, the machine, and the boot of its kernel. Version 0.1 knew no machines."""

    pid: int = -1
    started: float = 0.0
    host: str = ""
    boot: str = ""

    @classmethod
    def here(cls) -> Writer:
        process = psutil.Process()
        return cls(process.pid, process.create_time(), platform.node(), _boot())

    def seems_alive(self) -> bool:
        """Whether a process of this number that began at about that time runs here."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < SAME_START and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return False

    def elsewhere(self) -> bool:
        """Whether it ran where a lock of this machine may say nothing of it: neither this kernel nor this host."""
        here = Writer.here()
        same_kernel = self.boot != "" and self.boot == here.boot
        return self.host != "" and self.host != here.host and not same_kernel


def lock_of(partial: Path) -> FileLock:
    """The lock of a `.partial` folder; it lies beside it, as the folder is renamed in the end."""
    return FileLock(partial.with_name(f".{partial.name}.lock"), thread_local=False)


def claim(partial: Path) -> FileLock:
    """The lock of a folder about to be recorded, held; not held where there are no locks, which must stop nobody."""
    lock = lock_of(partial)
    with suppress(OSError, NotImplementedError):  # filelock has both for file systems without locks
        lock.acquire(blocking=False)
    return lock


@contextmanager
def owning(partial: Path, writer: Writer, *, in_place: bool) -> Iterator[None]:
    """Holds the folder for the body. With `in_place` false the folder is only read.

    Raises ScopeError where somebody writes it, or, `in_place`, might.
    """
    busy = f"{partial} is still being recorded (process {writer.pid} on {writer.host or 'this machine'})"
    lock = lock_of(partial)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ScopeError(f"{busy}; stop the recording first.") from error
    except (OSError, NotImplementedError) as error:
        if in_place:
            raise ScopeError(f"{partial} cannot be locked ({error}), so not mended in place; use --out DIR.") from error
    try:
        if not writer.host and writer.seems_alive():
            raise ScopeError(f"{busy}; stop the recording first.")
        if in_place and writer.elsewhere():
            raise ScopeError(
                f"{partial} was recorded on {writer.host}, which may still write it; recover it there, or make the "
                f"clip elsewhere with --out DIR."
            )
        yield
    finally:
        release(lock)


def release(lock: FileLock) -> None:
    """Let go of a lock, and leave no file of it."""
    if lock.is_locked:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _boot() -> str:
    """This boot of this kernel, which containers share; empty where the system has no name for it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
