"""The folder of released SCOPE weights: what must be in it, and its parts as modules. Source: SPEC.md section 7.

    model-*-of-*.safetensors with model.safetensors.index.json, or SCOPE.safetensors   the DiT
    Wan2.2_VAE.pth                                                                      the video autoencoder
    models_t5_umt5-xxl-enc-bf16.pth                                                     the text encoder
    google/umt5-xxl/                                                                    its tokenizer

A `config.json` marked `"format": "scope-play"` may give the configs under `dit`, `vae` and `text_encoder`; otherwise
they are read off the tensors. (The release has a `config.json` of another kind, which is not needed.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
from scope_play.model.umt5.tokenizer import PromptTokenizer
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.records import read_record
from scope_play.weights import shapes
from scope_play.weights.checkpoint import Progress, build_on_meta, check_fit, load_into
from scope_play.weights.hashing import HashCache, sha256_of_all
from scope_play.weights.jsons import read_json_object
from scope_play.weights.sources import PickleSource, SafetensorsSource, Source
from scope_play.weights.tokenizer import read_tokenizer

INDEX = "model.safetensors.index.json"
SINGLE = "SCOPE.safetensors"
VAE_FILE = "Wan2.2_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER = "google/umt5-xxl"
CONFIG = "config.json"
FORMAT = "scope-play"

_SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")


class ScopeFolder:
    """An official folder whose headers have been checked. Each part is loaded when it is asked for, and not kept."""

    def __init__(self, path: Path, dit_source: Source, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.sources: Mapping[str, Source] = {
            "dit": dit_source,
            "vae": PickleSource(path / VAE_FILE),
            "text_encoder": PickleSource(path / TEXT_FILE),
        }
        self._settings = settings

    @cached_property
    def dit_config(self) -> DiTConfig:
        if "dit" in self._settings:
            return read_record(DiTConfig, self._settings["dit"], str(self.path / CONFIG))
        return shapes.dit_config(self.sources["dit"])

    @cached_property
    def vae_config(self) -> VAEConfig:
        if "vae" in self._settings:
            return read_record(VAEConfig, self._settings["vae"], str(self.path / CONFIG))
        return shapes.vae_config(self.sources["vae"])

    @cached_property
    def text_config(self) -> TextEncoderConfig:
        if "text_encoder" in self._settings:
            return read_record(TextEncoderConfig, self._settings["text_encoder"], str(self.path / CONFIG))
        return shapes.text_config(self.sources["text_encoder"])

    def check(self) -> None:
        """Raise ScopeError unless every part holds exactly the tensors its config asks for. Reads headers only."""
        builds: dict[str, Callable[[], nn.Module]] = {
            "dit": lambda: DiT(self.dit_config),
            "vae": lambda: VAENetwork(self.vae_config),
            "text_encoder": lambda: TextEncoder(self.text_config),
        }
        for part, build in builds.items():
            check_fit(build_on_meta(build).state_dict(), self.sources[part])
        if self.dit_config.text_dim not in (None, self.text_config.dim):
            raise ScopeError(
                f"{self.path}: the DiT reads text of width {self.dit_config.text_dim} but {TEXT_FILE} gives "
                f"{self.text_config.dim}; these files belong to different models."
            )
        if self.dit_config.in_channels != self.vae_config.z_dim:
            raise ScopeError(
                f"{self.path}: the DiT reads {self.dit_config.in_channels} latent channels but {VAE_FILE} gives "
                f"{self.vae_config.z_dim}; these files belong to different models."
            )

    def dit(
        self, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> DiT:
        return load_into(
            lambda: DiT(self.dit_config), self.sources["dit"], dtype=dtype, device=device, progress=progress
        )

    def vae(
        self, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> WanVAE:
        network = load_into(
            lambda: VAENetwork(self.vae_config), self.sources["vae"], dtype=dtype, device=device, progress=progress
        )
        return WanVAE(network)

    def text_encoder(
        self, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> TextEncoder:
        return load_into(
            lambda: TextEncoder(self.text_config),
            self.sources["text_encoder"],
            dtype=dtype,
            device=device,
            progress=progress,
        )

    def tokenizer(self) -> PromptTokenizer:
        return read_tokenizer(self.path / TOKENIZER)

    def hashes(self, cache: HashCache | None = None) -> dict[str, str]:
        """SHA-256 of every weight file, by name within the folder."""
        cache = cache or HashCache()
        files = [file for source in self.sources.values() for file in source.files]
        return {file.relative_to(self.path).as_posix(): cache.sha256(file) for file in files}

    def sha256(self, cache: HashCache | None = None) -> str:
        """One hash for all weight files."""
        return sha256_of_all(self.hashes(cache))


def open_scope_folder(path: str | Path) -> ScopeFolder:
    """Open an official folder and check that it is complete and consistent, without loading any weights.

    Raises:
        ScopeError: names the files that are missing or damaged, or the tensors that do not fit.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ScopeError(f"{folder} is not a folder; give the folder with SCOPE's weights (scope-play download scope).")
    required = [VAE_FILE, TEXT_FILE, f"{TOKENIZER}/"]
    missing = [name for name in required if not (folder / name).exists()]
    if missing:
        raise ScopeError(f"{folder} lacks {', '.join(missing)}; complete it with: scope-play download scope")
    opened = ScopeFolder(folder, _dit_source(folder), read_settings(folder / CONFIG))
    opened.check()
    return opened


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object at `path` if it is one of this project's, else nothing. Raises ScopeError if it is no JSON."""
    if not path.exists():
        return {}
    content = read_json_object(path)
    return content if content.get("format") == FORMAT else {}


def _dit_source(folder: Path) -> Source:
    if (folder / INDEX).exists():
        return _indexed_source(folder)
    shards = sorted(file for file in folder.iterdir() if _SHARD.fullmatch(file.name))
    if shards:
        _check_shard_numbers(folder, shards)
        return SafetensorsSource(folder, shards)
    if (folder / SINGLE).exists():
        return SafetensorsSource(folder / SINGLE, [folder / SINGLE])
    raise ScopeError(
        f"{folder} lacks the DiT: neither model-*-of-*.safetensors nor {SINGLE} is there; "
        f"complete it with: scope-play download scope"
    )


def _indexed_source(folder: Path) -> Source:
    index = folder / INDEX
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ScopeError(f"{index}: 'weight_map' must map tensor names to file names; download it again.")
    names = sorted(set(places.values()))
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        raise ScopeError(f"{index}: file name {outside[0][:80]!r} points out of the folder; download the index again.")
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise ScopeError(f"{folder} lacks {', '.join(absent)}; complete it with: scope-play download scope")
    for name in names:
        shard = SafetensorsSource(folder / name, [folder / name])
        listed = {tensor for tensor, file in places.items() if file == name}
        if differing := sorted(listed ^ shard.tensors.keys()):
            raise ScopeError(
                f"{folder / name} and {INDEX} disagree about {len(differing)} tensors ({', '.join(differing[:3])}); "
                f"download both again."
            )
    return SafetensorsSource(folder, [folder / name for name in names])


def _check_shard_numbers(folder: Path, shards: list[Path]) -> None:
    matches = [_SHARD.fullmatch(shard.name) for shard in shards]
    numbers = [(int(match.group(1)), int(match.group(2))) for match in matches if match]
    of = {total for _, total in numbers}
    absent = sorted(set(range(1, max(of) + 1)) - {number for number, _ in numbers}) if len(of) == 1 else []
    if len(of) > 1 or absent:
        fault = f"lacks DiT shard {absent[0]} of {max(of)}" if absent else "holds shards of different sets"
        raise ScopeError(f"{folder} {fault}; complete it with: scope-play download scope")
