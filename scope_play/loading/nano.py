"""Models in this project's own format, nano among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scope_play.errors import ScopeError
from scope_play.images import read_image
from scope_play.loading.device import pick_device, resolve_precision
from scope_play.loading.first_scene import draw_first_scene
from scope_play.loading.request import LoadRequest
from scope_play.loading.resolve import Family, ModelPlace
from scope_play.model.dit.config import NANO, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.records import read_record
from scope_play.runtime.fast_field import fast_drawer
from scope_play.runtime.quantize import quantise_blocks
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.loaded_model import LoadedModel, own
from scope_play.weights.catalog import NANO_MODELS, nano_folder
from scope_play.weights.jsons import read_json_object
from scope_play.weights.native import open_native_folder

NANO_SIZE = (96, 160)
UNTRAINED_SEED = 0
FIRST_SCENE = "first.png"
GONE = {"sampling": {"sink": 0}}
"""What older folders say that no longer has a choice: only this value opens."""


@dataclass(frozen=True)
class NativeConfig:
    """`config.json` of a native folder: two networks, how to stream them, and the size they were trained at."""

    world: DiTConfig
    codec: NanoCodecConfig
    sampling: StreamConfig
    size: tuple[int, int]
    trained: bool

    def __post_init__(self) -> None:
        if self.size != self.codec.frame:
            raise ScopeError(f"size is {self.size}, but codec.frame is {self.codec.frame}; make them equal")
        if self.world.in_channels != self.codec.latent_channels:
            raise ScopeError(
                f"world.in_channels is {self.world.in_channels}, but codec.latent_channels is "
                f"{self.codec.latent_channels}; make them equal"
            )


def untrained_nano_config() -> NativeConfig:
    codec = NanoCodecConfig()
    network = replace(NANO, in_channels=codec.latent_channels, out_channels=codec.latent_channels)
    return NativeConfig(network, codec, StreamConfig(window=12), NANO_SIZE, trained=False)


def parse_native_config(values: Mapping[str, Any], where: str) -> NativeConfig:
    """Raises ScopeError naming the key of `where` that is missing, unknown, or does not fit."""
    values = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for part, keys in GONE.items():
        for key, only in keys.items():
            if isinstance(values.get(part), dict) and values[part].pop(key, only) != only:
                raise ScopeError(f"{where}: {part}.{key} must be {only}, as all folders have it; export it again.")
    return read_record(NativeConfig, values, where, mend="export the folder again")


def native_config(model: ModelPlace) -> NativeConfig:
    """Of a model of this project's own format, without loading it."""
    if model.family is Family.UNTRAINED:
        return untrained_nano_config()
    described = model.folder / "config.json"
    return parse_native_config(read_json_object(described), str(described))


def to_native_json(config: NativeConfig) -> dict[str, Any]:
    """Inverse of `parse_native_config`."""
    return asdict(config)


def untrained_nano(request: LoadRequest) -> LoadedModel:
    """Nano with random weights, the same on every machine: it plays, and says that it has learned nothing."""
    config = untrained_nano_config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        network, codec = DiT(config.world), NanoCodec(config.codec)
    device = pick_device(request.device)
    dtype, linears = resolve_precision(request.precision, "fp32", device)
    return native_model(network, codec, config, "nano", device=device, dtype=dtype, linears=linears, request=request)


def load_native(model: ModelPlace, request: LoadRequest) -> LoadedModel:
    """A folder of `model`'s family, nano's own or another. Raises ScopeError naming what does not fit."""
    folder = model.folder
    device = pick_device(request.device)
    dtype, linears = resolve_precision(request.precision, "fp32", device)
    shipped = model.name in NANO_MODELS and folder == nano_folder(model.name)
    opened = open_native_folder(folder, nano_folder() if shipped else None)
    config = parse_native_config(opened.config, str(folder / "config.json"))
    network = opened.world(lambda: DiT(config.world), dtype, device)
    codec = opened.codec(lambda: NanoCodec(config.codec), dtype, device)
    picture = folder / FIRST_SCENE
    loaded = native_model(
        network,
        codec,
        config,
        model.name,
        device=device,
        dtype=dtype,
        linears=linears,
        request=request,
        first_scene=picture if picture.is_file() else None,
    )
    loaded.identity = {
        "model": model.name if shipped else str(folder.resolve()),
        "sha256": opened.sha256(),
    }
    return loaded


def native_model(
    network: DiT,
    codec: NanoCodec,
    config: NativeConfig,
    name: str,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    linears: str | None = None,
    request: LoadRequest | None = None,
    first_scene: Path | None = None,
) -> LoadedModel:
    """`first_scene` is the picture a session starts from unless told otherwise; without one the arena draws it.

    `linears` "fp8" or "int8" stores the blocks' linears so. Networks that are being trained are left as they are.
    """
    device = device or torch.device("cpu")
    network = own(network).to(device, dtype).requires_grad_(False)
    codec = own(codec).to(device, dtype).requires_grad_(False)
    quantise_blocks(network, linears or "bf16")
    codec.drawer = fast_drawer(codec)
    changes = {} if request is None else request.stream_changes()
    return LoadedModel(
        network,
        codec,
        replace(config.sampling, **changes),
        size=config.size,
        name=name,
        trained=config.trained,
        precision=linears,
        first_scene=lambda: draw_first_scene(config.size) if first_scene is None else read_image(first_scene),
    )
