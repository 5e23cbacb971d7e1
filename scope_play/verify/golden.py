"""Golden vectors: folders with an `index.json` of cases, inputs, outputs and weights, and comparisons with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scope_play.errors import ScopeError

FORMAT = 1


@dataclass(frozen=True)
class Case:
    """One entry of the index. `weights` and `config` are those of the networks by name, or of the only one by ''."""

    id: str
    kind: str
    file: str
    weights: Mapping[str, str]
    config: Mapping[str, Mapping[str, Any]]
    params: Mapping[str, Any]
    dtype: torch.dtype

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Case:
        weights, config = entry["weights"], entry["config"]
        if isinstance(weights, str):
            weights, config = {"": weights}, {"": config}
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[entry["dtype"]]
        return cls(entry["id"], entry["kind"], entry["file"], weights, config, entry["params"], dtype)


class GoldenFolder:
    """A folder of golden vectors.

    Raises:
        ScopeError: the folder has no index, or a file of it is missing or damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        index = self.json("index.json")
        try:
            if index["format"] != FORMAT:
                raise ScopeError(f"{root}/index.json has format {index['format']}, but this version reads {FORMAT}.")
            self.cases = [Case.from_json(entry) for entry in index["cases"]]
        except (KeyError, TypeError) as error:
            raise ScopeError(f"{root}/index.json has no valid {error}; give a folder of golden vectors.") from error

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def json(self, name: str) -> Any:
        path = self.root / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ScopeError(f"There is no {path}; give a folder of golden vectors.") from error
        except (OSError, ValueError) as error:
            raise ScopeError(f"{path} could not be read as JSON ({error}); copy the folder again.") from error

    def tensors(self, name: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The tensors of one file, cloned: memory-mapped ones are unaligned, which changes the last bits of results."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.root / name
        try:
            return {key: tensor.clone().to(device) for key, tensor in load_file(path).items()}
        except FileNotFoundError as error:
            raise ScopeError(f"There is no {path}, which the index names; copy the folder again.") from error
        except (OSError, SafetensorError) as error:
            raise ScopeError(f"{path} is not a readable safetensors file ({error}); copy the folder again.") from error


@dataclass(frozen=True)
class Check:
    """One comparison: the largest absolute difference found in `quantity`, and the largest allowed."""

    case: str
    quantity: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # NaN does not pass


def largest_difference(ours: Tensor, golden: Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    if ours.shape != golden.shape:
        return float("inf")
    return float((ours.double() - golden.double()).abs().max())
