"""From a name or a folder to a `World`: nano and its kin, or the official SCOPE files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from scope_play.errors import ScopeError
from scope_play.images import read_image
from scope_play.loading.scope import MemoryOptions, load_official
from scope_play.model.dit.config import NANO, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.runtime.quantize import fp8_obstacle, quantise_blocks
from scope_play.sampling.stream import StreamConfig
from scope_play.session.first_scene import draw_first_scene
from scope_play.weights.catalog import NANO_MODELS
from scope_play.weights.download import resolve_model
from scope_play.weights.jsons import read_json_object
from scope_play.weights.native import open_native_folder
from scope_play.world import World

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EIGHT_BIT = ("fp8", "int8")
DECODERS = ("full", "tiny")
NANO_SIZE = (96, 160)
UNTRAINED_SEED = 0
FIRST_SCENE = "first.png"


@dataclass(frozen=True)
class NativeConfig:
    """`config.json` of a native folder: two networks, how to stream them, and the size they were trained at."""

    world: DiTConfig
    codec: NanoCodecConfig
    stream: StreamConfig
    size: tuple[int, int]
    trained: bool


def untrained_nano_config() -> NativeConfig:
    codec = NanoCodecConfig()
    network = replace(NANO, in_channels=codec.latent_channels, out_channels=codec.latent_channels)
    return NativeConfig(network, codec, StreamConfig(window=12), NANO_SIZE, trained=False)


def parse_native_config(values: Mapping[str, Any], where: str) -> NativeConfig:
    """Raises ScopeError naming the key of `where` that is missing or does not fit."""
    known = {field.name for field in fields(StreamConfig)}
    try:
        stream = {key: value for key, value in values["sampling"].items() if key in known}
        unknown = set(values["sampling"]) - known
        if unknown:
            raise ScopeError(f"{where}: unknown key 'sampling.{min(unknown)}'; known are {', '.join(sorted(known))}")
        return NativeConfig(
            world=DiTConfig.from_json(values["world"], where),
            codec=NanoCodecConfig(**values["codec"]),
            stream=StreamConfig(**stream),
            size=(int(values["size"][0]), int(values["size"][1])),
            trained=bool(values["trained"]),
        )
    except KeyError as error:
        raise ScopeError(f"{where}: key {error} is missing; export the folder again") from error
    except TypeError as error:
        raise ScopeError(f"{where}: a value has the wrong type ({error}); export the folder again") from error


def to_native_json(config: NativeConfig) -> dict[str, Any]:
    """Inverse of `parse_native_config`."""
    return {
        "trained": config.trained,
        "size": list(config.size),
        "sampling": asdict(config.stream),
        "world": config.world.to_json(),
        "codec": asdict(config.codec),
    }


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one. Raises ScopeError for a device that is not there."""
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(chosen)
    except RuntimeError as error:
        raise ScopeError(f"device {chosen!r} is not known; use cpu or cuda") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ScopeError(f"device {chosen!r} was asked for, but torch {torch.__version__} finds no CUDA GPU; use cpu")
    return resolved


def resolve_dtype(precision: str | None, default: str) -> torch.dtype:
    chosen = precision or default
    if chosen not in PRECISIONS:
        raise ScopeError(f"precision {chosen!r} is not known; use one of {', '.join(PRECISIONS)}")
    return PRECISIONS[chosen]


def resolve_precision(precision: str | None, default: str, device: torch.device) -> tuple[torch.dtype, str | None]:
    """The type a model computes in and, for fp8 and int8, how its blocks' linears are stored beside it.

    Raises ScopeError for an unknown precision, and for fp8 without a GPU, where it would only be slower than bf16.
    """
    known = (*PRECISIONS, *EIGHT_BIT)
    if precision is not None and precision not in known:
        raise ScopeError(f"precision {precision!r} is not known; use one of {', '.join(known)}")
    if precision not in EIGHT_BIT:
        return resolve_dtype(precision, default), None
    if precision == "fp8" and device.type != "cuda":
        raise ScopeError(f"precision fp8 needs an NVIDIA GPU and the model would be on {device}; use bf16 or int8")
    obstacle = fp8_obstacle(device) if precision == "fp8" else None
    if obstacle is not None:
        raise ScopeError(f"precision fp8 {obstacle}; use int8")
    return PRECISIONS["bf16" if device.type == "cuda" else default], precision


def load_world(
    model: str | Path, *, device: str | None, precision: str | None, decoder: str, overrides: Mapping[str, Any]
) -> World:
    """See `World.load`. `overrides` are StreamConfig fields that win over the folder's own."""
    if decoder not in DECODERS:
        raise ScopeError(f"decoder {decoder!r} is not known; use one of {', '.join(DECODERS)}")
    where = pick_device(device)
    nano = is_nano(model)
    folder = (nano_folder().parent / str(model)) if nano else Path(resolve_model(model))
    if not nano and not folder.is_dir():
        raise ScopeError(f"there is no model {str(model)!r}; give 'nano' or a folder of weights")
    if not nano and not is_native(folder):
        dtype, linears = resolve_precision(precision, "bf16", where)
        return load_official(folder, where, dtype, MemoryOptions(linears, decoder), overrides)
    if decoder == "tiny":
        raise ScopeError(f"{model} has a small decoder of its own, so it takes no tiny one; leave the decoder out")
    numbers = resolve_precision(precision, "fp32", where)
    if not is_native(folder):
        return untrained_nano(where, *numbers, overrides)
    return load_native(folder, str(model) if nano else folder.resolve().name, where, *numbers, overrides)


def is_native(folder: Path) -> bool:
    """Whether `folder` holds a model in this project's own format rather than the official files."""
    config = folder / "config.json"
    return config.is_file() and "world" in read_json_object(config)


def is_nano(model: str | Path) -> bool:
    return str(model) in NANO_MODELS


def nano_folder() -> Path:
    import scope_play.weights

    return Path(scope_play.weights.__path__[0]) / NANO_MODELS[0]


def untrained_nano(
    device: torch.device, dtype: torch.dtype, linears: str | None, overrides: Mapping[str, Any]
) -> World:
    """Nano with random weights, the same on every machine: it plays, and says that it has learned nothing."""
    config = untrained_nano_config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        network, codec = DiT(config.world), NanoCodec(config.codec)
    identity = {"model": "nano", "sha256": ""}
    return build_world(network, codec, config, "nano", identity, device, dtype, overrides, linears=linears)


def load_native(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype, linears: str | None, overrides: Mapping[str, Any]
) -> World:
    shipped = folder in [nano_folder().parent / known for known in NANO_MODELS]
    opened = open_native_folder(folder, nano_folder() if shipped else None)
    config = parse_native_config(opened.config, str(folder / "config.json"))
    network = opened.world(lambda: DiT(config.world), dtype, device)
    codec = opened.codec(lambda: NanoCodec(config.codec), dtype, device)
    identity = {"model": name if shipped else str(folder.resolve()), "sha256": opened.sha256()}
    picture = folder / FIRST_SCENE
    scene = picture if picture.is_file() else None
    return build_world(network, codec, config, name, identity, device, dtype, overrides, scene, linears)


def build_world(
    network: DiT,
    codec: NanoCodec,
    config: NativeConfig,
    name: str,
    identity: dict[str, str],
    device: torch.device,
    dtype: torch.dtype,
    overrides: Mapping[str, Any],
    first_scene: Path | None = None,
    linears: str | None = None,
) -> World:
    """`first_scene` is the picture a session starts from unless told otherwise; without one the arena draws it.

    `linears` "fp8" or "int8" stores the blocks' linears so, in the network that is given.
    """
    network = network.to(device, dtype).requires_grad_(False)
    quantise_blocks(network, linears or "bf16")
    return World(
        network,
        codec.to(device, dtype).requires_grad_(False),
        replace(config.stream, **overrides),
        size=config.size,
        name=name,
        trained=config.trained,
        identity=identity,
        precision=linears,
        default_image=lambda: draw_first_scene(config.size) if first_scene is None else read_image(first_scene),
    )
