"""What every benchmark reports alike: the machine it ran on, and a JSON file with the numbers and the command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scope_play import __version__

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, and the versions that decide speed."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scope_play": __version__,
    }


def write_result(name: str, numbers: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `numbers` with machine, time and command to `<folder>/<name>.json`, over an older run; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    beside = path.with_suffix(".json.partial")
    content = {
        "benchmark": name,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["scope-play", *sys.argv[1:]]),
        "machine": machine(),
        **numbers,
    }
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.replace(path)
    return path


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
