"""Folders in this project's own format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.records import read_record
from scope_play.weights.hashing import HashCache
from scope_play.weights.native import open_native_folder, write_native_folder
from tests.helpers.small_codec import small_codec

TINY = DiTConfig(
    dim=32, layers=1, heads=2, ffn_dim=32, in_channels=8, out_channels=8, patch=(1, 1, 1), text_dim=None, causal=True
)
CODEC = small_codec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_native_folder(
        tmp_path / "m", {"trained": False, "world": asdict(TINY)}, DiT(TINY), NanoCodec(CODEC), torch.bfloat16
    )
    return tmp_path / "m"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    world, codec = DiT(TINY), NanoCodec(CODEC)
    write_native_folder(tmp_path / "m", {"trained": True, "world": asdict(TINY)}, world, codec, torch.float32)
    opened = open_native_folder(tmp_path / "m")
    config = read_record(DiTConfig, opened.config["world"], "config.json")
    assert config == TINY
    again = opened.world(lambda: DiT(config), torch.float32)
    codec_again = opened.codec(lambda: NanoCodec(CODEC), torch.float32)
    for original, read in ((world, again), (codec, codec_again)):
        for name, value in read.state_dict().items():
            assert torch.equal(value, original.state_dict()[name])


def test_weights_stored_in_half_precision_compute_in_full(folder: Path) -> None:
    world = open_native_folder(folder).world(lambda: DiT(TINY), torch.float32)
    assert {parameter.dtype for parameter in world.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["config.json", "world.safetensors", "codec.safetensors"])
def test_missing_and_damaged_files_are_named(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ScopeError, match=name):
        open_native_folder(folder)
    (folder / name).unlink()
    with pytest.raises(ScopeError, match=f"lacks {name}"):
        open_native_folder(folder)


def test_swapped_files_are_refused(folder: Path) -> None:
    opened = open_native_folder(folder)
    with pytest.raises(ScopeError, match=r"codec\.safetensors does not hold the expected tensors"):
        opened.codec(lambda: DiT(TINY), torch.float32)


def test_a_diverged_model_does_not_replace_a_good_one(folder: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "hashes.json")
    before = open_native_folder(folder).hashes(cache)
    broken = DiT(TINY)
    with torch.no_grad():
        broken.head.head.bias[0] = float("nan")
    with pytest.raises(ScopeError, match=r"'head\.head\.bias' is not finite"):
        write_native_folder(folder, {}, broken, NanoCodec(CODEC), torch.bfloat16)
    assert open_native_folder(folder).hashes(cache) == before


def test_the_hash_stands_for_all_files(folder: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "hashes.json")
    before = open_native_folder(folder).sha256(cache)
    write_native_folder(folder, {"trained": True}, DiT(TINY), NanoCodec(CODEC), torch.bfloat16)
    assert open_native_folder(folder).sha256(cache) != before


def test_a_second_codec_shares_the_world_of_the_first(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_native_folder(other, {"trained": False}, DiT(TINY), NanoCodec(CODEC), torch.bfloat16)
    (other / "world.safetensors").unlink()
    opened, first = open_native_folder(other, folder), open_native_folder(folder)
    assert torch.equal(*(some.world(lambda: DiT(TINY), torch.float32).head.head.weight for some in (opened, first)))
    hashes = opened.hashes(HashCache(tmp_path / "hashes.json"))
    assert hashes["world.safetensors"] == first.hashes(HashCache(tmp_path / "hashes.json"))["world.safetensors"]
    assert hashes["codec.safetensors"] != first.hashes(HashCache(tmp_path / "hashes.json"))["codec.safetensors"]
    with pytest.raises(ScopeError, match=r"lacks world\.safetensors"):
        open_native_folder(other)
