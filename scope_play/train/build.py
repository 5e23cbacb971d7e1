"""From the words of `scope-play train` to a trainer: which networks, from which weights, on which data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.config import NANO, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.model.nano_codec.resize import resize_codec, resize_config
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.records import read_record
from scope_play.train import checkpoint
from scope_play.train.autoencoder import AutoencoderRecipe, AutoencoderTrainer
from scope_play.train.data.folders import FolderSource, clip_folders
from scope_play.train.data.games import Games
from scope_play.train.data.sources import ArenaSource, ClipSource
from scope_play.train.data.states import FEATURES, event_config
from scope_play.train.importance import picture_change
from scope_play.train.loop import Trainer, part
from scope_play.train.student import StudentRecipe, StudentTrainer
from scope_play.train.world import WorldRecipe, WorldTrainer, initialise
from scope_play.weights.native import NativeFolder, open_native_folder

GPU_WORLD = {"clips": 512, "micro_batch": 512}
GPU_AUTOENCODER = {
    "pool": 60_000, "fresh": 128, "moments": 512, "pictures": 128, "finished": 32, "micro_batch": 512
}  # fmt: skip
"""What a GPU takes a step, in one piece; a CPU takes less, a few at a time."""
RECORDED_WORLD = {"clips": 4, "micro_batch": 4}
"""From recordings on a CPU: nano's codec finds a frame's latent in a twentieth of a second, which is most of a step."""
KINDS = ("autoencoder", "world", "student")


@dataclass(frozen=True)
class Options:
    """What the command line says about one training. `model` is a JSON file; `codec` and `start` are folders of runs or
    models."""

    model: Path | None = None
    codec: Path | None = None
    start: Path | None = None
    clips: Path | None = None
    recipe: Mapping[str, Any] | None = None
    device: str = "cpu"
    bf16: bool = True
    threads: int = 1
    workers: int = 0
    seed: int = 0
    size: tuple[int, int] = (96, 160)
    compiled: bool = False
    report: Callable[[str], None] = print


def build(kind: str, options: Options) -> Trainer[Any]:
    """A trainer of one of KINDS. Raises ScopeError for files, keys and sizes that do not fit."""
    torch.manual_seed(options.seed)
    shared: dict[str, Any] = {
        "seed": options.seed,
        "device": options.device,
        "bf16": options.bf16,
        "threads": options.threads,
    }
    model = _read_json(options.model) if options.model else {}
    if kind == "autoencoder":
        config, start = _codec_config(model, options.model), None
        if options.start is not None:
            begun = resize_codec(load_nano_codec(replace(options, codec=options.start)), options.size)
            config, start = begun.config, begun.state_dict()
        elif "codec" not in model and options.size != config.frame:
            config = resize_config(config, options.size)
        if config.features == FEATURES:
            config = replace(config, events=event_config())
        if options.clips is not None:
            raise ScopeError(
                "nano's autoencoder learns from what the simulator knows, which clips lack; leave out --clips"
            )
        arena = ArenaSource(options.seed, *options.size)
        recipe = _recipe(AutoencoderRecipe, options)
        return AutoencoderTrainer(config, arena, recipe=recipe, start=start, workers=options.workers, **shared)
    codec = load_codec(options, model)
    channels = codec.config.latent_channels
    world = _world_config(options, model) or replace(NANO, in_channels=channels, out_channels=channels)
    if world.out_channels != channels:
        raise ScopeError(f"{options.model}: world.out_channels is {world.out_channels}, but the codec has {channels}")
    network = initialise(DiT(world), options.seed)
    if options.start is not None:
        # Starting from a network without this part goes on just where that one was: it is silent at first.
        silent = {name: value for name, value in network.state_dict().items() if name.startswith("action_modulation.")}
        network.load_state_dict(silent | _world_weights(options.start, world))
    if options.compiled:
        for block in network.blocks:
            block.compile()
    games = scale = None
    if isinstance(codec, NanoCodec) and options.clips is None:
        games = Games(codec, options.seed, options.workers)
        scale = picture_change(codec, games.moments(192))
    trainer = StudentTrainer if kind == "student" else WorldTrainer
    recipe = _recipe(StudentRecipe if kind == "student" else WorldRecipe, options)
    source = clip_source(options, recipe.most_latents)
    return trainer(network, codec, source, recipe=recipe, channel_scale=scale, games=games, **shared)


def clip_source(options: Options, latents: int) -> ClipSource:
    """Of clips of up to so many latents; what is left out of recordings is told."""
    height, width = options.size
    if options.clips is None:
        return ArenaSource(options.seed, height, width)
    folders = clip_folders(options.clips)
    source = FolderSource(folders, seed=options.seed, height=height, width=width, latents=latents)
    for reason in source.left_out:
        options.report(f"left out: {reason}")
    return source


def load_codec(options: Options, model: Mapping[str, Any]) -> NanoCodec | WanVAE:
    """The frozen codec: from a run of `train autoencoder`, from a model folder, or, for SCOPE, the Wan2.2 VAE."""
    if "wan_codec" in model:
        return _wan_codec(model["wan_codec"], options)
    return load_nano_codec(options)


def load_nano_codec(options: Options) -> NanoCodec:
    """The small autoencoder of a run of `train autoencoder` or of a model folder, frozen."""
    if options.codec is None:
        raise ScopeError("world training needs a codec; give --codec with the --out folder of train autoencoder")
    if (options.codec / "codec.safetensors").is_file():
        described = _read_json(options.codec / "config.json")
        config = _codec_config(described, options.codec / "config.json")
        folder = NativeFolder(options.codec, described)
        return folder.codec(lambda: NanoCodec(config), torch.float32, options.device).eval().requires_grad_(False)
    _, tensors, values = checkpoint.load(options.codec)
    tiny = NanoCodec(read_record(NanoCodecConfig, values["model"], str(options.codec), "model")).to(options.device)
    tiny.load_state_dict(part(tensors, "model") | part(tensors, "average"))
    return tiny.eval().requires_grad_(False)


def _wan_codec(sizes: Mapping[str, Any], options: Options) -> WanVAE:
    if options.codec is None:
        raise ScopeError(
            f"{options.model} asks for a wan_codec, and one without weights knows no picture; give them with --codec"
        )
    network = VAENetwork(read_record(VAEConfig, sizes, str(options.model), "wan_codec"))
    network.load_state_dict(_plain_weights(options.codec))
    return WanVAE(network.to(options.device).eval().requires_grad_(False))


def _world_config(options: Options, model: Mapping[str, Any]) -> DiTConfig | None:
    """As --model says, or, without that, as the model folder that training starts from."""
    if "world" in model:
        return read_record(DiTConfig, model["world"], str(options.model), "world")
    described = options.start / "config.json" if options.start is not None else None
    if described is None or not described.is_file():
        return None
    return read_record(DiTConfig, _read_json(described).get("world", {}), str(described), "world")


def _world_weights(folder: Path, config: DiTConfig) -> dict[str, Tensor]:
    """Those of a model folder, or the averaged ones of a run."""
    if (folder / "world.safetensors").is_file():
        return open_native_folder(folder).world(lambda: DiT(config), torch.float32).state_dict()
    _, tensors, values = checkpoint.load(folder)
    if values["kind"] == "autoencoder":
        raise ScopeError(
            f"{folder} holds a training of an autoencoder, which cannot start a world; give another --start"
        )
    return part(tensors, "model") | part(tensors, "average")


def _plain_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ScopeError(f"{path} is not a readable safetensors file ({error}); restore it") from error


def _codec_config(model: Mapping[str, Any], source: Path | None) -> NanoCodecConfig:
    return read_record(NanoCodecConfig, model.get("codec", {}), str(source), "codec", mend="see NanoCodecConfig")


def _recipe(kind: type[Any], options: Options) -> Any:
    on_cpu = torch.device(options.device).type == "cpu"
    large = GPU_AUTOENCODER if kind is AutoencoderRecipe else GPU_WORLD
    small = RECORDED_WORLD if options.clips is not None else {}
    changes = {**(small if on_cpu else large), **_tuples(options.recipe or {})}
    try:
        if "optimiser" in changes:
            changes["optimiser"] = replace(kind().optimiser, **_tuples(changes["optimiser"]))
        return kind(**changes)
    except (TypeError, ValueError) as error:
        raise ScopeError(f"the recipe does not fit {kind.__name__} ({error}); see its fields") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ScopeError(f"{path} could not be read as JSON ({error}); restore the file") from error
    if not isinstance(values, dict):
        raise ScopeError(f"{path} holds a {type(values).__name__}, not an object; restore the file")
    return values
