"""A folder of the released layout with random weights at a small width: every file is there, and it generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork

SMALL_DIT = DiTConfig(dim=128, layers=2, heads=1, ffn_dim=256, text_dim=32)
SMALL_VAE = VAEConfig(dim=8, dec_dim=8)
SMALL_TEXT = TextEncoderConfig(vocab=300, dim=32, dim_attn=48, dim_ffn=64, heads=4, layers=3)
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_official_folder(folder: str | Path, seed: int = 0) -> Path:
    """Write the folder (made if needed) and return it: two DiT shards with an index, two .pth files, a tokenizer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write_shards(folder, random_state(DiT(SMALL_DIT), torch.bfloat16))
        torch.save(random_state(VAENetwork(SMALL_VAE), torch.float32), folder / "Wan2.2_VAE.pth")
        torch.save(random_state(TextEncoder(SMALL_TEXT), torch.bfloat16), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    write_tokenizer(folder / "google" / "umt5-xxl")
    # The release has a config.json of its own, which is not this project's.
    (folder / "config.json").write_text(json.dumps({"model_type": "ti2v", "dim": 3072}))
    return folder


def random_state(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The module's weights, with small random numbers where its training would start from constants."""
    state = {}
    for name, tensor in module.state_dict().items():
        noise = 0.05 * torch.randn(tensor.shape) if tensor.min() == tensor.max() else 0
        state[name] = (tensor.detach() + noise).to(dtype).contiguous()
    return state


def write_shards(folder: Path, state: dict[str, Tensor]) -> None:
    """The state in two safetensors files of about equal size, with the index that tells which tensor is where."""
    half = sum(tensor.nbytes for tensor in state.values()) / 2
    shards: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    written = 0
    for name, tensor in state.items():
        shards[written >= half][name] = tensor
        written += tensor.nbytes
    for name, shard in zip(SHARDS, shards, strict=True):
        save_file(shard, folder / name)
    places = {tensor: name for name, shard in zip(SHARDS, shards, strict=True) for tensor in shard}
    index = {"metadata": {"total_size": written}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path) -> None:
    """A byte tokenizer with UMT5's special tokens: <pad> is 0, and </s> (1) ends every prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    vocab = {token: number for number, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    fast.save_pretrained(folder)
