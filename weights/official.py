"""SCOPE's weights: what must be there, and its parts as modules. Source: SPEC.md section 7.

    model-*-of-*.safetensors with model.safetensors.index.json, or SCOPE.safetensors   the DiT
    Wan2.2_VAE.pth                                                                      the video autoencoder
    models_t5_umt5-xxl-enc-bf16.pth                                                     the text encoder
    google/umt5-xxl/                                                                    its tokenizer

That is the release; `find` and `recognise` take the last three from elsewhere and in other forms too. A `config.json`
marked `"format": "scope-play"` may give the configs under `dit`, `vae` and `text_encoder`; otherwise they are read off
the tensors. (The release has a `config.json` of another kind, which is not needed.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from scope_play.weights.checkpoint import Progress, build_on_meta, check_fit, load_into, load_without_blocks
from scope_play.weights.find import RELEASED, TOKENIZER, Search, find_dit, search_places
from scope_play.weights.foreign.lora import LoraSpec, MergedSource, merge_loras
from scope_play.weights.hashing import HashCache, sha256_of_all
from scope_play.weights.jsons import read_json_object
from scope_play.weights.recognise import EMBEDDED, Part
from scope_play.weights.sources import Source
from scope_play.weights.tokenizer import read_pieces, read_tokenizer, tokenizer_files

CONFIG = "config.json"
FORMAT = "scope-play"


class ScopeFolder:
    """An official folder whose headers have been checked. Each part is loaded when it is asked for, and not kept."""

    def __init__(
        self, path: Path, sources: Mapping[str, Source], tokenizer: Path | Source, settings: Mapping[str, Any]
    ) -> None:
        """`tokenizer` is a folder, or a text encoder's file that carries one."""
        self.path = path
        self.sources = sources
        self._tokenizer = tokenizer
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

    @cached_property
    def sampling(self) -> Mapping[str, Any]:
        """How its network is to be streamed, where a training has said so: fields of `StreamConfig`."""
        return dict(self._settings.get("sampling", {}))

    def check(self) -> None:
        """Raise ScopeError unless every part holds exactly the tensors its config asks for. Reads headers only."""
        for part in self.sources:
            build, source = self._part(part)
            check_fit(build_on_meta(build).state_dict(), source)
        if self.dit_config.text_dim not in (None, self.text_config.dim):
            raise ScopeError(
                f"{self.path}: the DiT reads text of width {self.dit_config.text_dim} but "
                f"{self.sources['text_encoder'].path} gives {self.text_config.dim}; these files belong to different "
                f"models."
            )
        if self.dit_config.in_channels != self.vae_config.z_dim:
            raise ScopeError(
                f"{self.path}: the DiT reads {self.dit_config.in_channels} latent channels but "
                f"{self.sources['vae'].path} gives {self.vae_config.z_dim}; these files belong to different models."
            )

    def dit(
        self,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
        prepare: Callable[[nn.Module], None] | None = None,
    ) -> DiT:
        """`prepare`: see `load_into`."""
        build, source = self._part("dit")
        return load_into(build, source, dtype=dtype, device=device, progress=progress, prepare=prepare)

    def vae(
        self, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> WanVAE:
        build, source = self._part("vae")
        return WanVAE(load_into(build, source, dtype=dtype, device=device, progress=progress))

    def text_encoder(
        self, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> TextEncoder:
        build, source = self._part("text_encoder")
        return load_into(build, source, dtype=dtype, device=device, progress=progress)

    def without_blocks(
        self, part: str, dtype: torch.dtype, device: torch.device | str
    ) -> tuple[Any, list[dict[str, str]], Callable[[], nn.Module]]:
        """Part "dit" or "text_encoder" with its blocks left in their files; see `load_without_blocks`."""
        build, source = self._part(part)
        return load_without_blocks(build, source, dtype=dtype, device=device)

    def _part(self, part: str) -> tuple[Callable[[], Any], Source]:
        builds: dict[str, Callable[[], nn.Module]] = {
            "dit": lambda: DiT(self.dit_config),
            "vae": lambda: VAENetwork(self.vae_config),
            "text_encoder": lambda: TextEncoder(self.text_config),
        }
        return builds[part], self.sources[part]

    def tokenizer(self) -> PromptTokenizer:
        """Raises ScopeError naming the file or the package that is missing."""
        if isinstance(self._tokenizer, Path):
            return read_tokenizer(self._tokenizer)
        (content,) = (tensor.numpy().tobytes() for _, tensor in self._tokenizer.read([EMBEDDED]))
        try:
            return PromptTokenizer(read_pieces(content, str(self._tokenizer.path)))
        except ImportError as error:
            raise ScopeError(
                f"{self._tokenizer.path} needs the package {error.name}; run: pip install 'scope-play[text]'"
            ) from error

    @property
    def tokenizer_files(self) -> Sequence[Path]:
        """What prompts are read with."""
        return tokenizer_files(self._tokenizer) if isinstance(self._tokenizer, Path) else self._tokenizer.files

    def elsewhere(self) -> dict[str, Path]:
        """Parts that are not in the model's own folder, and where they are."""
        inside = self.path if self.path.is_dir() else self.path.parent
        return {part: source.path for part, source in self.sources.items() if not source.path.is_relative_to(inside)}

    def hashes(self, cache: HashCache | None = None) -> dict[str, str]:
        """SHA-256 of every file the weights come from: by name within the folder, or by part for those elsewhere."""
        cache, found = cache or HashCache(), {}
        folder = self.path if self.path.is_dir() else self.path.parent
        for part, source in self.sources.items():
            for file in source.files:
                inside = file.is_relative_to(folder)
                found[file.relative_to(folder).as_posix() if inside else f"{part}/{file.name}"] = cache.sha256(file)
            for lora in source.loras if isinstance(source, MergedSource) else ():
                found[lora.label] = cache.sha256(lora.source.path)
        return found

    def sha256(self, cache: HashCache | None = None) -> str:
        """One hash for all weight files."""
        return sha256_of_all(self.hashes(cache))


def open_scope_folder(path: str | Path, *, wan: Path | None = None, loras: Sequence[LoraSpec] = ()) -> ScopeFolder:
    """Open SCOPE's weights and check that they are complete and consistent, without loading any.

    path: the folder, or the transformer's one file. wan: where else to look for the parts of Wan2.2. loras: to be
    merged into the transformer.

    Raises:
        ScopeError: names the files that are missing or damaged, or the tensors that do not fit.
    """
    model = Path(path)
    if not model.exists():
        raise ScopeError(f"{model} is not a folder; give the folder with SCOPE's weights (scope-play download scope).")
    if wan is not None and not wan.is_dir():
        raise ScopeError(f"--wan {wan} is not a folder; give the one with Wan2.2's autoencoder and text encoder.")
    folder = model if model.is_dir() else model.parent
    dit = find_dit(model)
    search = Search(search_places(folder, wan))
    parts = {kind: search.part(kind) for kind in RELEASED}
    found = {kind: part for kind, part in parts.items() if part is not None}
    tokenizer = search.tokenizer() or _embedded(found.get("text_encoder"))
    missing = [RELEASED[kind] for kind in RELEASED if kind not in found]
    if missing or tokenizer is None:
        missing += [f"{TOKENIZER}/"] if tokenizer is None else []
        seen = f" ({'; '.join(search.refused[:3])})" if search.refused else ""
        raise ScopeError(
            f"{folder} lacks {', '.join(missing)}{seen}; complete it with: scope-play download scope, or name the "
            f"folder of Wan2.2's with --wan"
        )
    sources = {"dit": merge_loras(dit, loras)} | {kind: part.source for kind, part in found.items()}
    opened = ScopeFolder(model, sources, tokenizer, read_settings(folder / CONFIG))
    opened.check()
    return opened


def _embedded(part: Part | None) -> Source | None:
    return None if part is None else part.tokenizer


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object at `path` if it is one of this project's, else nothing. Raises ScopeError if it is no JSON."""
    if not path.exists():
        return {}
    content = read_json_object(path)
    return content if content.get("format") == FORMAT else {}
