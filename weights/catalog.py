"""Checkpoints this project knows by name: where they come from, under which licence, and what is in them.

Sizes and hashes are None where they have not been published or checked; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from scope_play.errors import ScopeError

NANO_MODELS = ("nano", "nano-96x160")
"""Nano by name, and the same world with a decoder for slower machines, which draws a quarter of the pixels."""


@dataclass(frozen=True)
class CatalogFile:
    """One file of a checkpoint: path within its folder, size in bytes, SHA-256 in hexadecimal.

    path may be a pattern (`model-*-of-*.safetensors`) for all that the repository has. required: without it there is
    nothing to play. instead: the checkpoint, by name, whose file of the same path serves where this repository has
    none. or_else: the same in one file of this repository.
    """

    path: str
    nbytes: int | None = None
    sha256: str | None = None
    required: bool = True
    instead: str | None = None
    or_else: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A known set of weights. `repository` is a Hugging Face model id, or None for one that comes with the package."""

    name: str
    title: str
    repository: str | None
    revision: str | None
    licence: str
    source: str
    files: tuple[CatalogFile, ...]
    approximate_nbytes: int
    """What the whole takes on disk, for a first comparison with free space."""


NANO = Checkpoint(
    name="nano",
    title="Nano, a small world model of this project's own arena",
    repository=None,
    revision=None,
    licence="Apache-2.0",
    source="trained by scope-play train; comes with the package",
    files=(CatalogFile("config.json"), CatalogFile("world.safetensors"), CatalogFile("codec.safetensors")),
    approximate_nbytes=30 * 10**6,
)

SCOPE = Checkpoint(
    name="scope",
    title="SCOPE 5B, an interactive world model of first-person shooters (arXiv 2605.23345)",
    repository="zizhaotong/SCOPE",
    revision=None,
    licence="Apache-2.0",
    source="https://huggingface.co/zizhaotong/SCOPE",
    files=(
        CatalogFile("model-*-of-*.safetensors", or_else="SCOPE.safetensors"),
        CatalogFile("model.safetensors.index.json", required=False),
        CatalogFile("Wan2.2_VAE.pth", instead="wan2.2"),
        CatalogFile("models_t5_umt5-xxl-enc-bf16.pth", instead="wan2.2"),
        CatalogFile("google/umt5-xxl/tokenizer.json", required=False, instead="wan2.2"),
        CatalogFile("google/umt5-xxl/spiece.model", instead="wan2.2"),
        CatalogFile("google/umt5-xxl/tokenizer_config.json", required=False),
    ),
    approximate_nbytes=30 * 10**9,
)

# Sizes and hashes as published with the base model, whose autoencoder, text encoder and tokenizer SCOPE uses.
WAN22 = Checkpoint(
    name="wan2.2",
    title="Autoencoder, text encoder and tokenizer of Wan2.2-TI2V-5B, SCOPE's base model",
    repository="Wan-AI/Wan2.2-TI2V-5B",
    revision="921dbaf3f1674a56f47e83fb80a34bac8a8f203e",
    licence="Apache-2.0",
    source="https://huggingface.co/Wan-AI/Wan2.2-TI2V-5B",
    files=(
        CatalogFile(
            "Wan2.2_VAE.pth",
            2_818_839_170,
            "20eb789667fa5e60e7516bf509512f6cb61f01b0aa0695eadaea930c13892b36",
        ),
        CatalogFile(
            "models_t5_umt5-xxl-enc-bf16.pth",
            11_361_920_418,
            "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
        ),
        CatalogFile(
            "google/umt5-xxl/special_tokens_map.json",
            6_623,
            "7b8a9f5040adb67b5805abdfd42c1f8d0f3d0e711f10726580eb3789cd0ad61d",
        ),
        CatalogFile(
            "google/umt5-xxl/spiece.model",
            4_548_313,
            "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458",
        ),
        CatalogFile(
            "google/umt5-xxl/tokenizer.json",
            16_837_417,
            "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b",
        ),
        CatalogFile(
            "google/umt5-xxl/tokenizer_config.json",
            61_728,
            "ed9a3a8b0faa71a70a32847e0435fe036e6e112d4df4edb7bb48a921e344dc05",
        ),
    ),
    approximate_nbytes=14_202_213_669,
)

CATALOG: Mapping[str, Checkpoint] = MappingProxyType({entry.name: entry for entry in (NANO, SCOPE, WAN22)})


def find_checkpoint(name: str) -> Checkpoint:
    """Raises ScopeError listing the known names when `name` is not one of them."""
    try:
        return CATALOG[name]
    except KeyError:
        raise ScopeError(f"there is no checkpoint {name!r}; known are {', '.join(CATALOG)}.") from None


def nano_folder(name: str = NANO_MODELS[0]) -> Path:
    """Where the weights that come with this package lie, `name` being one of NANO_MODELS."""
    return Path(__file__).parent / name
