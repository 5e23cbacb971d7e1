"""How the two attention kernels are cut, measured once per GPU and kept in a small table.

`scope-play bench kernels --tune` times the few candidates on the machine at hand and writes the winners to
`kernels.json` in the user's cache folder; `select` looks them up when a model is loaded. Without a table, or without
an entry for a shape, the defaults hold.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from scope_play.errors import ScopeError

TUNED = ("pixel_attention", "button_attention")


@dataclass(frozen=True)
class Cut:
    """tile: elements of a cache slot one program takes. stages: slots in flight. rows: tokens a program (buttons)."""

    tile: int = 1024
    stages: int = 3
    rows: int = 4


def candidates(kernel: str) -> list[Cut]:
    """What `--tune` tries, the default first."""
    rows = (4, 2, 8) if kernel == "button_attention" else (4,)
    return [Cut(*choice) for choice in itertools.product((1024, 512, 2048), (3, 2, 4), rows)]


def entry(kernel: str, gpu: str, dtype: str, heads: int, head_dim: int, latents: int) -> str:
    """The table's key for one kernel at one shape on one GPU."""
    return f"{kernel} | {gpu} | {dtype} | {heads}x{head_dim} | chunk {latents}"


def table_path() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("scope-play") / "kernels.json"


def load_table(path: Path) -> dict[str, Cut]:
    """The table at `path`, empty if there is none. Raises ScopeError when it is not one."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        return {key: Cut(**{name: int(value) for name, value in cut.items()}) for key, cut in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ScopeError(f"{path} is not a table of kernel cuts ({error}); delete it or tune again") from error


def save_table(path: Path, found: Mapping[str, Cut]) -> None:
    """Adds `found` to the table at `path`."""
    table = {**load_table(path), **found}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".json.partial")
    beside.write_text(json.dumps({key: asdict(cut) for key, cut in sorted(table.items())}, indent=2) + "\n")
    beside.replace(path)


def fastest(kernel: str, seconds: Callable[[Cut], float]) -> tuple[Cut, dict[Cut, float]]:
    """The best candidate and the time of each, `seconds` being the median of one call."""
    times = {cut: seconds(cut) for cut in candidates(kernel)}
    return min(times, key=lambda cut: times[cut]), times
