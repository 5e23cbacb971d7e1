"""How much memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that are free on the device and on the host, which on the CPU are the same."""

    device: int
    host: int
    is_cpu: bool

    @classmethod
    def now(cls, device: torch.device) -> FreeMemory:
        host = host_free()
        if device.type != "cuda":
            return cls(host, host, is_cpu=True)
        return cls(torch.cuda.mem_get_info(device)[0], host, is_cpu=False)


def host_free() -> int:
    """Memory this process can still take without swapping, within its control group's limit if it has one."""
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free  # no control group, or "max": no limit
    return min(free, max(0, limit - used))


def gib(size: int) -> str:
    """`3.2 GiB`."""
    return f"{size / GIB:.1f} GiB"
