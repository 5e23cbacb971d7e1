"""Weight files seen under other names, or with the scales of their 8-bit numbers applied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from scope_play.weights.sources import Source, StoredTensor

SCALES = (".scale_weight", ".weight_scale")
"""What ComfyUI's older and newer files call the factor of a layer's 8-bit weight."""
ASIDE = (".scale_input", ".input_scale", ".comfy_quant")
"""What they say besides: of the activations, which here stay as they are, and of the format."""
MARKER = "scaled_fp8"


class RenamedSource:
    """The tensors of `inner` that `names` maps to, name here -> name there. The others are not seen."""

    def __init__(self, inner: Source, names: Mapping[str, str]) -> None:
        self.inner = inner
        self.names = names

    @property
    def path(self) -> Path:
        return self.inner.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.inner.files

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return {here: self.inner.tensors[there] for here, there in self.names.items()}

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        wanted = {there: here for here, there in self.names.items() if names is None or here in names}
        for there, tensor in self.inner.read(wanted.keys()):
            yield wanted[there], tensor


class ScaledSource:
    """Weights in 8 bits times their scales, as float32 (rounded once more to the type they are loaded in)."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.scales = {
            f"{name.removesuffix(suffix)}.weight": name
            for name in inner.tensors
            for suffix in SCALES
            if name.endswith(suffix)
        }

    @property
    def path(self) -> Path:
        return self.inner.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.inner.files

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        aside = set(self.scales.values())
        kept = {
            name: stored
            for name, stored in self.inner.tensors.items()
            if name not in aside and not name.endswith((*ASIDE, MARKER))
        }
        # A float8 type that this torch or this table does not know is a floating-point type all the same.
        return {
            name: replace(stored, dtype=stored.dtype or torch.float8_e5m2) if name in self.scales else stored
            for name, stored in kept.items()
        }

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        wanted = [name for name in self.tensors if names is None or name in names]
        scales = {self.scales[name] for name in wanted if name in self.scales}
        factors = {name: tensor.float() for name, tensor in self.inner.read(scales)}
        for name, tensor in self.inner.read(wanted):
            if name in self.scales:
                factor = factors[self.scales[name]]
                tensor = tensor.float() * (factor if factor.numel() == 1 else factor.reshape(-1, 1))
            yield name, tensor


def is_scaled(source: Source) -> bool:
    """Whether a file keeps factors beside its weights."""
    return any(name.endswith(SCALES) for name in source.tensors)
