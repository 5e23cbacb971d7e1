"""LoRA files, merged into weights as these are read: W + scale * alpha / rank * up @ down.

Names are those of DiffSynth and peft (`blocks.0.self_attn.q.lora_A.default.weight`), of diffusers
(`transformer.blocks.0.attn1.to_q.lora_A.weight`), of ComfyUI (`diffusion_model.blocks.0.self_attn.q.lora_down.weight`)
and of its trainers (`lora_unet_blocks_0_self_attn_q.lora_down.weight`); whole differences (`.diff`, `.diff_b`) too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.records import STRONGEST
from scope_play.weights.foreign.keys import DIFFUSERS_DIT, rename
from scope_play.weights.jsons import read_json_object
from scope_play.weights.sources import Source, StoredTensor, open_source

_SIDE = re.compile(r"(.+?)\.(?:lora_(A|B|down|up)(?:\.[^.]+)??\.weight|(alpha|diff|diff_b))")
_WRAPPERS = re.compile(r"(?:base_model\.model\.|transformer\.|diffusion_model\.|model\.|pipe\.dit\.|dit\.|lora_unet_)*")
_ROLES = {"A": "down", "down": "down", "B": "up", "up": "up"}


@dataclass(frozen=True)
class LoraSpec:
    """What `--lora FILE[:scale]` asks for; `path` is a file, or a folder as peft saves it."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> LoraSpec:
        """Raises ScopeError for a file that is not there or a scale that is no number."""
        name, _, number = text.rpartition(":")
        if name and not place(text).exists():
            try:
                scale = float(number)
            except ValueError:
                scale = math.nan
            if not abs(scale) <= STRONGEST:
                raise ScopeError(f"--lora {text}: {number!r} is no scale; write FILE:0.8, or FILE alone for 1")
            return cls(place(name), scale)
        return cls(place(text))


@dataclass
class _Change:
    """What a file does to one tensor: names of its tensors by role."""

    parts: dict[str, str] = field(default_factory=dict)


class Lora:
    """A LoRA file against the tensors it changes."""

    def __init__(self, spec: LoraSpec, targets: Mapping[str, StoredTensor]) -> None:
        """Raises ScopeError naming the first tensor that belongs to none of `targets`, or does not fit its shape."""
        self.spec = spec
        self.source = open_source(_weights_file(spec.path))
        self._alpha, self._root = _peft_alpha(spec.path)
        self.changes = self._pair(targets)
        for name, change in self.changes.items():
            self._check(name, change, targets[name].shape)

    @property
    def label(self) -> str:
        """What tells this change from others in a model's identity."""
        return f"lora {self.spec.scale:g} {self.source.path.name}"

    def apply(self, name: str, weight: Tensor) -> Tensor:
        """`weight`, of that name, with its change, in float32."""
        parts = self.changes[name].parts
        read = {there: tensor.float().clone() for there, tensor in self.source.read(set(parts.values()))}
        if "diff" in parts:
            return weight.float() + self.spec.scale * read[parts["diff"]].reshape(weight.shape)
        down, up = read[parts["down"]].flatten(1), read[parts["up"]].flatten(1)
        rank = len(down)
        alpha = float(read[parts["alpha"]]) if "alpha" in parts else self._alpha
        factor = 1.0 if alpha is None else alpha / (math.sqrt(rank) if self._root else rank)
        return torch.addmm(weight.float().flatten(1), up, down, alpha=self.spec.scale * factor).reshape(weight.shape)

    def _pair(self, targets: Mapping[str, StoredTensor]) -> Mapping[str, _Change]:
        flat = {name.removesuffix(".weight").replace(".", "_"): name for name in targets if name.endswith(".weight")}
        found: dict[str, _Change] = {}
        for name in self.source.tensors:
            match = _SIDE.fullmatch(name)
            module = _WRAPPERS.sub("", match.group(1), count=1) if match else None
            if match is None or module is None:
                raise ScopeError(f"{self.source.path}: tensor {name!r} is of no known kind of LoRA; take another file")
            role = _ROLES.get(match.group(2) or "", match.group(3))
            target = _target(module, "bias" if role == "diff_b" else "weight", targets, flat)
            if target is None:
                raise ScopeError(
                    f"{self.source.path}: tensor {name!r} changes {module!r}, which this model does not have; take a "
                    f"LoRA made for it"
                )
            found.setdefault(target, _Change()).parts["diff" if role == "diff_b" else role] = name
        return {name: change for name, change in found.items() if change.parts.keys() != {"alpha"}}

    def _check(self, name: str, change: _Change, shape: tuple[int, ...]) -> None:
        there = {role: self.source.tensors[theirs].shape for role, theirs in change.parts.items()}
        if "diff" in there:
            fits = math.prod(there["diff"]) == math.prod(shape)
        elif {"down", "up"} <= there.keys():
            down, up = there["down"], there["up"]
            fits = len(shape) > 1 and down[0] == up[1] and (up[0], math.prod(down[1:])) == (
                shape[0], math.prod(shape[1:]),
            )  # fmt: skip
        else:
            raise ScopeError(f"{self.source.path} has only one half of the change to {name!r}; take another file")
        if not fits:
            raise ScopeError(
                f"{self.source.path}: the change to {name!r} has shapes {', '.join(map(str, there.values()))}, which "
                f"do not fit {shape}; take a LoRA made for this model"
            )


class MergedSource:
    """Weights with LoRAs merged into them, one after the other."""

    def __init__(self, inner: Source, loras: Sequence[Lora]) -> None:
        self.inner = inner
        self.loras = tuple(loras)

    @property
    def path(self) -> Path:
        return self.inner.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.inner.files

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return self.inner.tensors

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.inner.read(names):
            for lora in self.loras:
                if name in lora.changes:
                    tensor = lora.apply(name, tensor)
            yield name, tensor


def merge_loras(source: Source, specs: Sequence[LoraSpec]) -> Source:
    """`source` with what the files of `specs` change. Raises ScopeError naming a tensor that does not fit."""
    return MergedSource(source, [Lora(spec, source.tensors) for spec in specs]) if specs else source


def _target(module: str, kind: str, targets: Mapping[str, StoredTensor], flat: Mapping[str, str]) -> str | None:
    names = (f"{module}.{kind}", rename(f"{module}.{kind}", DIFFUSERS_DIT))
    found = next((name for name in names if name in targets), flat.get(module))
    return found if kind == "weight" or found is None else f"{found.rpartition('.')[0]}.bias"


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / name for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ScopeError(f"{path} has no {files[0].name}; give the file of the LoRA")
    return found


def _peft_alpha(path: Path) -> tuple[float | None, bool]:
    """(alpha for all layers, whether it is divided by the rank's root), from what peft and diffusers write beside."""
    beside = (path if path.is_dir() else path.parent) / "adapter_config.json"
    about = read_json_object(beside) if beside.is_file() else _metadata(_weights_file(path))
    alpha = about.get("lora_alpha", about.get("transformer.lora_alpha"))
    return (float(alpha) if isinstance(alpha, int | float) else None), about.get("use_rslora") is True


def _metadata(file: Path) -> Mapping[str, object]:
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        return {}
    try:
        with safe_open(file, framework="pt") as handle:
            written = (handle.metadata() or {}).get("lora_adapter_metadata", "{}")
        about = json.loads(written)
    except (SafetensorError, OSError, ValueError):
        return {}  # what is wrong with the file is said when its tensors are read
    return about if isinstance(about, dict) else {}
