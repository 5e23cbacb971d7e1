"""Where the golden vectors are, and how they are read."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
SUBSET = REPOSITORY / "tests" / "golden"


def golden_root() -> Path:
    """The whole reference beside the checkout when it is there, else the subset in the repository."""
    whole = REPOSITORY.parent / "shared" / "reference"
    return whole if (whole / "index.json").is_file() else SUBSET


@cache
def golden_index() -> dict[str, Any]:
    return golden_json("index.json")


def golden_cases(kind: str) -> list[dict[str, Any]]:
    """The index entries of one kind, for `pytest.mark.parametrize(..., ids=lambda case: case["id"])`."""
    return [case for case in golden_index()["cases"] if case["kind"] == kind]


def golden_json(name: str) -> Any:
    return json.loads((golden_root() / name).read_text(encoding="utf-8"))


def golden_tensors(name: str) -> dict[str, Tensor]:
    """The tensors of one file, cloned: memory-mapped ones are unaligned, which changes the last bits of results."""
    return {key: tensor.clone() for key, tensor in load_file(golden_root() / name).items()}
