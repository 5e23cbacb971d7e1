"""What comes of a method's training: a LoRA file, and a folder of weights that plays, both written by one process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scope_play.files import replacing
from scope_play.loading.nano import to_native_json
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.records import to_json
from scope_play.sampling.stream_config import StreamConfig
from scope_play.train.parallel.ranks import Ranks
from scope_play.train.tune.recipe import Recipe
from scope_play.train.tune.start import Start
from scope_play.weights.native import write_native_folder
from scope_play.weights.official import CONFIG, FORMAT, ScopeFolder

LORA = "lora.safetensors"
SHARD = 2 * 2**30


def write_lora(path: Path, network: nn.Module, recipe: Recipe, ranks: Ranks) -> None:
    """The changes alone, by the names that DiffSynth and peft use; `--lora FILE` plays them."""
    from safetensors.torch import save_file

    assert recipe.lora is not None
    tensors = {
        name.replace(".default", ""): _whole(parameter).to(torch.bfloat16).contiguous()
        for name, parameter in network.named_parameters()
        if "lora_" in name
    }
    if ranks.leads:
        about = {"r": recipe.lora.rank, "lora_alpha": recipe.lora.alpha}
        with replacing(path) as beside:
            save_file(tensors, beside, {"lora_adapter_metadata": json.dumps(about), "format": "pt"})


def write_weights(out: Path, start: Start, network: nn.Module, recipe: Recipe, ranks: Ranks) -> None:
    """A folder that plays: SCOPE's layout with links to the parts of Wan2.2, or a native one with its codec."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in merged_state(network, recipe)}
    if not ranks.leads:
        return
    if start.native is not None:
        _write_native(out, start, state, recipe)
    elif start.scope is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write_shards(out, state)
        _link_parts(out, start.scope)
        config = replace(start.scope.dit_config, causal=recipe.causal)
        settings = {"format": FORMAT, "dit": to_json(config)}
        settings |= {"vae": to_json(start.scope.vae_config), "text_encoder": to_json(start.scope.text_config)}
        if recipe.causal:
            settings["sampling"] = recipe.sampling()
        with replacing(out / CONFIG) as beside:
            beside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def merged_state(network: nn.Module, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the plain network: what LoRA changes is added where it belongs."""
    tensors = {name: _whole(tensor) for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        if plain != name and recipe.lora is not None and name.endswith("weight"):
            module = name.removesuffix(".base_layer.weight")
            up, down = (tensors[f"{module}.lora_{side}.default.weight"] for side in ("B", "A"))
            tensor = tensor + recipe.lora.alpha / recipe.lora.rank * up @ down
        yield plain, tensor


def write_card(path: Path, recipe: Recipe, start: Start, figures: Mapping[str, Any], data: Path) -> None:
    """What the weights are and how they were made, for people."""
    lines = [f"# {path.parent.name}", "", f"`{recipe.kind}` from `{start.place.name}` on clips of `{data.name}`.", ""]
    settings = {"trainer": recipe.trainer, "method": recipe.settings} | ({"lora": recipe.lora} if recipe.lora else {})
    for section, values in settings.items():
        lines += [f"- {section}: " + ", ".join(f"{name} {value}" for name, value in to_json(values).items())]
    lines += ["", "Last figures of the run: " + ", ".join(f"{name} {value}" for name, value in figures.items()), ""]
    lines += ["It has not been judged by itself: `scope-play eval` does that for worlds of the arena.", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _whole(tensor: Tensor) -> Tensor:
    """On the CPU, whole on every rank."""
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().to("cpu", torch.float32)


def _write_native(out: Path, start: Start, state: Mapping[str, Tensor], recipe: Recipe) -> None:
    config = start.native_config()
    world = replace(config.world, causal=recipe.causal or config.world.causal)
    network = DiT(world)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    sampling = {name: value for name, value in recipe.sampling().items() if name != "guidance"}
    config = replace(config, world=world, sampling=StreamConfig(**sampling), trained=True)
    assert start.native is not None
    codec = start.native.codec(lambda: NanoCodec(config.codec), torch.float32, "cpu")
    write_native_folder(out, to_native_json(config), network, codec, torch.bfloat16)


def _write_shards(out: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if size + tensor.nbytes > SHARD and groups[-1]:
            groups.append({})
            size = 0
        groups[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    places: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        with replacing(out / file) as beside:
            save_file(group, beside)
        places |= dict.fromkeys(group, file)
    total = sum(tensor.nbytes for tensor in state.values())
    with replacing(out / "model.safetensors.index.json") as beside:
        beside.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))


def _link_parts(out: Path, scope: ScopeFolder) -> None:
    """Wan2.2's parts, which a training does not change: links, or copies where there are no links."""
    files = [file for part, source in scope.sources.items() if part != "dit" for file in source.files]
    targets = {out / file.name: file for file in files}
    targets |= {out / "google" / "umt5-xxl" / file.name: file for file in scope.tokenizer_files}
    for link, file in targets.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            os.symlink(file.resolve(), link)
        except OSError:
            shutil.copyfile(file, link)
