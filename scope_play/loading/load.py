"""From a family to a loaded model."""

from __future__ import annotations

from scope_play.errors import ScopeError
from scope_play.loading.nano import load_native, native_config, untrained_nano
from scope_play.loading.request import LoadRequest
from scope_play.loading.resolve import Family, ModelPlace
from scope_play.loading.scope import OFFICIAL_SIZE, load_official
from scope_play.session.loaded_model import LoadedModel


def load_model(model: ModelPlace, request: LoadRequest) -> LoadedModel:
    """Raises ScopeError naming the file, tensor or setting that does not fit."""
    if model.family is Family.ARENA:
        raise ScopeError(f"{model.name} is {model.family.value} and no network; play it with `scope-play arena`")
    if model.family is Family.OFFICIAL:
        return load_official(model.folder, request)
    if request.wan or request.lora or request.offload not in (None, "auto", "none"):
        raise ScopeError(f"{model.name} is whole and small as it is; leave out wan, lora and offload")
    if request.decoder == "tiny":
        raise ScopeError(f"{model.name} has a small decoder of its own, so it takes no tiny one; leave the decoder out")
    return untrained_nano(request) if model.family is Family.UNTRAINED else load_native(model, request)


def frame_size(model: ModelPlace) -> tuple[int, int]:
    """Height and width of a network's frames, in pixels, without loading it."""
    if model.family is Family.OFFICIAL:
        return OFFICIAL_SIZE
    return native_config(model).size
