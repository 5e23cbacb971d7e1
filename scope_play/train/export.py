"""From run folders to a folder of weights that `World.load` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.records import read_record
from scope_play.train import checkpoint
from scope_play.train.loop import part


def export_native(
    run_dir: Path, codec: NanoCodec, out_dir: Path, *, size: tuple[int, int] = (96, 160)
) -> dict[str, Any]:
    """Writes the averaged weights of a world or student run, in bfloat16, beside `codec`'s, and their config.

    Other files in `out_dir`, such as a model card, stay. Returns the config. Raises ScopeError when `run_dir` holds
    no world, or `out_dir` cannot be written.
    """
    from scope_play.loading.nano import NativeConfig, to_native_json
    from scope_play.sampling.stream_config import StreamConfig
    from scope_play.weights.native import write_native_folder

    _, tensors, values = checkpoint.load(run_dir)
    if values["kind"] not in ("world", "student"):
        raise ScopeError(f"{run_dir} holds a training of {values['kind']}, not of a world; give a world or student run")
    recipe = values["recipe"]
    config = NativeConfig(
        world=read_record(DiTConfig, values["model"], str(run_dir), "model"),
        codec=codec.config,
        sampling=StreamConfig(steps=len(recipe["sigmas"]), shift=_shift(recipe["sigmas"]), window=recipe["window"]),
        size=size,
        trained=True,
    )
    network = DiT(config.world)
    network.load_state_dict(part(tensors, "model") | part(tensors, "average"))
    described = to_native_json(config)
    write_native_folder(out_dir, described, network, codec, torch.bfloat16)
    return described


def export_codec(run_dir: Path, model_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Writes `model_dir`'s world beside the averaged codec of an autoencoder's run, in bfloat16, and their config.

    Returns the config. Raises ScopeError when `run_dir` holds no autoencoder, or one whose latents the world does not
    know.
    """
    from dataclasses import replace

    from scope_play.loading.nano import parse_native_config, to_native_json
    from scope_play.train.build import Options, load_nano_codec
    from scope_play.weights.native import open_native_folder, write_native_folder

    _, _, values = checkpoint.load(run_dir)
    if values["kind"] != "autoencoder":
        raise ScopeError(f"{run_dir} holds a training of {values['kind']}; give a run of train autoencoder")
    opened, codec = open_native_folder(model_dir), load_nano_codec(Options(codec=run_dir))
    config = parse_native_config(opened.config, str(model_dir / "config.json"))
    if codec.config.latent_channels != config.codec.latent_channels:
        raise ScopeError(
            f"{run_dir} has latents of {codec.config.latent_channels} numbers, but the world in {model_dir} knows "
            f"{config.codec.latent_channels}; give another model"
        )
    network = opened.world(lambda: DiT(config.world), torch.float32)
    described = to_native_json(replace(config, codec=codec.config, size=codec.config.frame))
    write_native_folder(out_dir, described, network, codec, torch.bfloat16)
    return described


def _shift(sigmas: Sequence[float]) -> float:
    """The schedule shift whose steps visit `sigmas`: two plain steps visit 1 and 1/2, shift k moves 1/2 to k/(k+1)."""
    return 1.0 if len(sigmas) == 1 else round(sigmas[1] / (1 - sigmas[1]), 6)
