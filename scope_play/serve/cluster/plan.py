"""What is to be deployed on a cluster: plain values, from the command line or from the `args` of a Serve config."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.records import read_record
from scope_play.serve.config import ServeConfig


@dataclass(frozen=True)
class Plan:
    """`least` to `most` replicas of a model, each with `config.seats` seats and `gpus` GPUs (0: on the CPU)."""

    request: LoadRequest
    config: ServeConfig
    least: int = 1
    most: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Arguments:
    """`args` of an application in a Serve config; `load` has the rest of a `LoadRequest`, times are seconds."""

    model: str = "nano"
    seats: int = 2
    replicas: str = "1"
    gpus: float = 1.0
    names: tuple[str, ...] = ()
    record: str | None = None
    drain: float = 60.0
    history_mb: int = 512
    load: dict | None = None


def read_plan(arguments: dict[str, Any]) -> Plan:
    """Raises ScopeError naming what is unknown or wrong."""
    found: Arguments = read_record(Arguments, arguments, "the application's args", mend="see examples in assets/ray")
    load = found.load or {}
    allowed = {field.name for field in fields(LoadRequest)} - {"model"}
    if unknown := sorted(set(load) - allowed):
        raise ScopeError(f"load has {unknown[0]!r}, which is not known; give one of {', '.join(sorted(allowed))}.")
    request = read_record(LoadRequest, {"model": found.model, **load}, "load of the application's args")
    config = ServeConfig(
        seats=found.seats,
        names=tuple(name.lower() for name in found.names),
        record=Path(found.record) if found.record else None,
        drain=found.drain,
        history_mb=found.history_mb,
    )
    least, most = read_replicas(found.replicas)
    return Plan(request, config, least, most, found.gpus)


def read_replicas(text: str) -> tuple[int, int]:
    """`3` or `1-8`: the least and the most."""
    match = re.fullmatch(r"([1-9]\d{0,3})(?:-([1-9]\d{0,3}))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise ScopeError(f"{text!r} is no number of replicas; write for example 2, or 1-8 to let it grow with players.")
    return least, most
