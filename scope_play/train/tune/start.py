"""What a training starts from, and what encodes for it: SCOPE's released folder, a native one, or nano by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.loading.load import frame_size
from scope_play.loading.nano import NativeConfig, parse_native_config
from scope_play.loading.prompts import PromptLibrary
from scope_play.loading.resolve import Family, ModelPlace, resolve
from scope_play.loading.scope import open_scope
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.train.shards.encode import Encoder
from scope_play.weights.catalog import NANO_MODELS, nano_folder
from scope_play.weights.native import NativeFolder, open_native_folder
from scope_play.weights.official import ScopeFolder


@dataclass(frozen=True)
class Start:
    """A model whose parts can be had. Exactly one of `scope` and `native` is set."""

    place: ModelPlace
    scope: ScopeFolder | None = None
    native: NativeFolder | None = None

    @property
    def described(self) -> dict[str, str]:
        opened = self.scope or self.native
        assert opened is not None
        return {"model": str(self.place.folder.resolve()), "sha256": opened.sha256()}

    def native_config(self) -> NativeConfig:
        assert self.native is not None
        return parse_native_config(self.native.config, str(self.place.folder / "config.json"))

    def network(self) -> DiT:
        """Its transformer, float32, on the CPU."""
        if self.scope is not None:
            return self.scope.dit(torch.float32)
        assert self.native is not None
        config = self.native_config().world
        return self.native.world(lambda: DiT(config), torch.float32)

    def encoder(self, size: tuple[int, int] | None, device: str) -> Encoder:
        """`size` of the pictures; by default the model's own. Raises ScopeError for one that it cannot encode."""
        size = size or frame_size(self.place)
        if self.scope is not None:
            scope, dtype = self.scope, torch.bfloat16 if device.startswith("cuda") else torch.float32
            library = PromptLibrary(scope, dtype)
            vae = scope.vae(dtype, device)
            vae.config.latent_size(*size)
            return Encoder(
                vae, size, self.described, lambda prompts: _trimmed(library.embed(prompts, device)), device=device
            )
        assert self.native is not None
        config = self.native_config()
        if size != config.size:
            raise ScopeError(f"{self.place.name} draws {config.size} and encodes nothing else; leave out --size")
        codec = self.native.codec(lambda: NanoCodec(config.codec), torch.float32, device).eval().requires_grad_(False)
        return Encoder(codec, size, self.described, None, torch.float32, device)


def open_start(model: str | Path, *, wan: str | None = None, loras: Sequence[str] = ()) -> Start:
    """Raises ScopeError naming what is not there or does not fit."""
    place = resolve(model)
    if place.family is Family.OFFICIAL:
        return Start(place, scope=open_scope(place.folder, wan, loras))
    if loras or wan:
        raise ScopeError(f"{place.name} takes no --lora and no --wan; leave them out")
    if place.family is not Family.NATIVE:
        raise ScopeError(f"{place.name} has no weights to start from; give a folder of weights")
    shipped = place.name in NANO_MODELS and place.folder == nano_folder(place.name)
    return Start(place, native=open_native_folder(place.folder, nano_folder() if shipped else None))


def _trimmed(contexts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the zeros of padding at their ends."""
    found = {}
    for prompt, context in contexts.items():
        used = int(context[0].abs().sum(-1).nonzero().max()) + 1 if bool(context.any()) else 1
        found[prompt] = context[:, :used].clone()
    return found
