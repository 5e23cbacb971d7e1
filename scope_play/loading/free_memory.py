"""How much memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIB = 2**30
GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that are free on the device and on the host, which on the CPU are the same."""

    device: int
    host: int
    is_cpu: bool

    @classmethod
    def now(cls, device: torch.device) -> FreeMemory:
        import torch

        host = host_free()
        if device.type != "cuda":
            return cls(host, host, is_cpu=True)
        return cls(torch.cuda.mem_get_info(device)[0], host, is_cpu=False)


def host_free() -> int:
    """Memory this process can still take without swapping, within the limits of its control groups."""
    import psutil

    return min([int(psutil.virtual_memory().available), *group_rooms()])


def group_rooms(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """What every control group that this process is in, with a limit of memory, leaves it, of version 1 or 2.

    Cached file content counts as used there, but gives way: what was not used lately is added back.
    """
    for line in _lines(membership):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = root / path.strip("/")
        # In a container the path is the host's, which is not there, and the root is the container's own group.
        for folder in [inside, *inside.parents] if inside.is_dir() else [root]:
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None:
                yield max(0, limit - used + _statistic(folder / "memory.stat", names[2]))
            if folder == root:
                break


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []  # a system without control groups


def _number(file: Path) -> int | None:
    """The number in a file; None for "max", which is no limit, and where there is no such file."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _statistic(file: Path, name: str) -> int:
    found = (line.split() for line in _lines(file))
    return next((int(parts[1]) for parts in found if len(parts) == 2 and parts[0] == name), 0)


def own_memory(status: Path = STATUS) -> int:
    """Bytes that a process, by default this one, cannot give back: without the pages of mapped files."""
    import psutil

    found = (line.split() for line in _lines(status))
    own = 1024 * sum(int(parts[1]) for parts in found if parts and parts[0] in ("RssAnon:", "RssShmem:"))
    # Where the system does not tell mapped pages apart, all of its own process.
    return own if own or status != STATUS else int(psutil.Process().memory_info().rss)


def gib(size: int) -> str:
    """`3.2 GiB`."""
    return f"{size / GIB:.1f} GiB"
