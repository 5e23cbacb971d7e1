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
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "</s>", "<unk>"]
    vocab = {token: number for number, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_spiece(folder: Path) -> Path:
    """A sentencepiece model as UMT5's is made, trained on a few lines, in `folder` as the release has it."""
    from sentencepiece import SentencePieceTrainer

    folder.mkdir(parents=True, exist_ok=True)
    words = [f"{a}{b}{c}" for a in ("wa", "ko", "tri") for b in ("n", "sk", "l") for c in ("a", "ed", "ing", "o")]
    lines = (" ".join(words[(7 * row + 5 * place) % len(words)] for place in range(9)) + ", ok." for row in range(200))
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "spiece"),
        vocab_size=290,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "umt5", "d_model": 4096}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))
    return folder
