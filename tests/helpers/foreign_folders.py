"""The numbers of an official folder in the forms that other programs keep, written by those programs' own modules."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scope_play.weights.find import TEXT_FILE, TOKENIZER, VAE_FILE
from scope_play.weights.foreign.keys import TRANSFORMERS_TEXT, Rules, diffusers_vae, rename
from tests.helpers.official_folder import SMALL_TEXT, SMALL_VAE, write_spiece


def diffusers_autoencoder() -> Any:
    """diffusers' Wan2.2 autoencoder at SMALL_VAE's widths."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=SMALL_VAE.dim,
        decoder_base_dim=SMALL_VAE.dec_dim,
        z_dim=48,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
    )


def transformers_encoder() -> Any:
    """transformers' UMT5 encoder at SMALL_TEXT's widths."""
    from transformers import UMT5Config, UMT5EncoderModel

    text = SMALL_TEXT
    config = UMT5Config(
        vocab_size=text.vocab,
        d_model=text.dim,
        d_kv=text.dim_attn // text.heads,
        d_ff=text.dim_ffn,
        num_layers=text.layers,
        num_heads=text.heads,
        feed_forward_proj="gated-gelu",
    )
    return UMT5EncoderModel(config)


def fill(module: Any, state: Mapping[str, Tensor], rules: Rules) -> Any:
    """`module` of another library with our numbers: every tensor of it is found, and every one of ours is used."""
    named = {name: rename(name, rules) for name in module.state_dict()}
    assert set(named.values()) == set(state)
    module.load_state_dict({theirs: state[ours] for theirs, ours in named.items() if ours is not None})
    return module.eval()


def as_diffusers(official: Path, folder: Path) -> Path:
    """`vae/`, `text_encoder/` (sharded) and `tokenizer/`."""
    vae = fill(diffusers_autoencoder(), torch.load(official / VAE_FILE), diffusers_vae(2))
    vae.save_pretrained(folder / "vae")
    text = fill(transformers_encoder().to(torch.bfloat16), torch.load(official / TEXT_FILE), TRANSFORMERS_TEXT)
    text.save_pretrained(folder / "text_encoder", max_shard_size="40KB")
    shutil.copytree(official / TOKENIZER, folder / "tokenizer")
    return folder


def as_diffsynth(official: Path, folder: Path) -> Path:
    """The released names in safetensors, the autoencoder's below a prefix."""
    folder.mkdir(parents=True)
    vae = torch.load(official / VAE_FILE)
    save_file({f"model.{name}": tensor for name, tensor in vae.items()}, folder / "Wan2.2_VAE.safetensors")
    save_file(torch.load(official / TEXT_FILE), folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    shutil.copytree(official / TOKENIZER, folder / TOKENIZER)
    return folder


def as_comfy(official: Path, folder: Path) -> Path:
    """ComfyUI's models folder, the text encoder with its tokenizer inside."""
    for name in ("vae", "text_encoders"):
        (folder / name).mkdir(parents=True)
    save_file(torch.load(official / VAE_FILE), folder / "vae" / "wan2.2_vae.safetensors")
    text = fill(transformers_encoder().to(torch.bfloat16), torch.load(official / TEXT_FILE), TRANSFORMERS_TEXT)
    state = {
        name: tensor.clone() for name, tensor in text.state_dict().items() if name != "encoder.embed_tokens.weight"
    }
    spiece = (write_spiece(folder / "scratch") / "spiece.model").read_bytes()
    shutil.rmtree(folder / "scratch")
    state["spiece_model"] = torch.frombuffer(bytearray(spiece), dtype=torch.uint8)
    save_file(state, folder / "text_encoders" / "umt5_xxl_fp16.safetensors")
    return folder


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "diffusers": as_diffusers,
    "diffsynth": as_diffsynth,
    "comfy": as_comfy,
}


def only_the_dit(official: Path, folder: Path) -> Path:
    """A folder with SCOPE's transformer alone."""
    folder.mkdir()
    for file in official.glob("model[.-]*"):
        shutil.copy(file, folder / file.name)
    return folder


def merged_dit(official: Path) -> dict[str, Tensor]:
    """The transformer's tensors, from all shards."""
    return {name: tensor for file in official.glob("model-*.safetensors") for name, tensor in load_file(file).items()}
