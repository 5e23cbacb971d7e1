"""The official folder: complete and consistent, or refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scope_play.errors import ScopeError
from scope_play.weights import find
from scope_play.weights.hashing import HashCache, sha256_of_all, sha256_of_file
from scope_play.weights.official import open_scope_folder
from tests.helpers.official_folder import SHARDS, SMALL_DIT, SMALL_TEXT, SMALL_VAE, write_official_folder


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that other programs keep on this machine are no part of these tests."""
    monkeypatch.setattr("scope_play.weights.find.usual_places", list)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("official") / "SCOPE")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "SCOPE")


def test_parts_load_and_run_together(original: Path) -> None:
    opened = open_scope_folder(original)
    assert opened.dit_config == SMALL_DIT
    assert opened.vae_config == SMALL_VAE
    assert opened.text_config == SMALL_TEXT
    tokens = opened.tokenizer()(["a dusty  town", ""])
    assert tokens.ids.shape == (2, 512)
    assert tokens.mask.sum(dim=1).tolist() == [len("a dusty town") + 1, 1]
    context = opened.text_encoder(torch.float32).encode(tokens.ids, tokens.mask)
    vae = opened.vae(torch.float32)
    latents = vae.encode(torch.rand(1, 3, 5, 32, 64) * 2 - 1)
    with torch.no_grad():
        velocity = opened.dit(torch.float32)(
            latents,
            torch.tensor([[0.0, 500.0]]),
            context=context[:1],
            buttons=torch.zeros(1, 5, 6),
            sticks=torch.zeros(1, 5, 4),
        )
    frames = vae.decode(velocity)
    assert frames.shape == (1, 3, 5, 32, 64)
    assert frames.isfinite().all()


def test_weights_are_those_in_the_shards(original: Path) -> None:
    stored = load_file(original / SHARDS[0]) | load_file(original / SHARDS[1])
    loaded = open_scope_folder(original).dit().state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_shards_are_found_without_an_index(folder: Path) -> None:
    (folder / find.INDEX).unlink()
    assert open_scope_folder(folder).sources["dit"].files == tuple(folder / name for name in SHARDS)


def test_one_file_may_hold_the_whole_dit(folder: Path) -> None:
    state = load_file(folder / SHARDS[0]) | load_file(folder / SHARDS[1])
    for name in (*SHARDS, find.INDEX):
        (folder / name).unlink()
    save_file(state, folder / find.SINGLE)
    assert open_scope_folder(folder).dit_config == SMALL_DIT


def test_a_config_of_this_project_wins_over_shapes(folder: Path) -> None:
    config = {"format": "scope-play", "dit": asdict(SMALL_DIT) | {"heads": 2, "causal": True}}
    (folder / "config.json").write_text(json.dumps(config))
    opened = open_scope_folder(folder)
    assert (opened.dit_config.heads, opened.dit_config.causal) == (2, True)
    assert opened.vae_config == SMALL_VAE


def remove_tensor(folder: Path) -> str:
    name = edit_first_shard(folder, lambda state, name: state.pop(name))
    drop_from_index(folder, name)
    return name


def rename_tensor(folder: Path) -> str:
    name = edit_first_shard(folder, lambda state, name: state.update({"renamed": state.pop(name)}))
    (folder / find.INDEX).unlink()
    return name


def reshape_tensor(folder: Path) -> str:
    return edit_first_shard(folder, lambda state, name: state.update({name: state[name].T.contiguous()}))


def edit_first_shard(folder: Path, change: Callable[[dict[str, torch.Tensor], str], object]) -> str:
    state = load_file(folder / SHARDS[0])
    name = "blocks.0.action_attn.keyboard_kv_proj.weight"
    change(state, name)
    save_file(state, folder / SHARDS[0])
    return name


def drop_from_index(folder: Path, name: str) -> None:
    index = json.loads((folder / find.INDEX).read_text())
    del index["weight_map"][name]
    (folder / find.INDEX).write_text(json.dumps(index))


def lose_a_shard(folder: Path) -> str:
    (folder / SHARDS[1]).unlink()
    return SHARDS[1]


def lose_a_shard_and_the_index(folder: Path) -> str:
    (folder / SHARDS[1]).unlink()
    (folder / find.INDEX).unlink()
    return "shard 2 of 2"


def lose_the_dit(folder: Path) -> str:
    for name in (find.INDEX, *SHARDS):
        (folder / name).unlink()
    return "lacks the DiT"


def truncate(name: str) -> Callable[[Path], str]:
    def change(folder: Path) -> str:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 2 // 3])
        return name

    return change


def remove(*names: str) -> Callable[[Path], str]:
    def change(folder: Path) -> str:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return ", ".join(names)

    return change


def index_out_of_the_folder(folder: Path) -> str:
    (folder / find.INDEX).write_text(json.dumps({"weight_map": {"x": "../../secrets.safetensors"}}))
    return "points out of the folder"


def index_of_nothing(folder: Path) -> str:
    (folder / find.INDEX).write_text("[1, 2")
    return find.INDEX


def index_of_another_model(folder: Path) -> str:
    drop_from_index(folder, "patch_embedding.weight")
    return "disagree about 1 tensors (patch_embedding.weight)"


def wrong_config(folder: Path) -> str:
    (folder / "config.json").write_text('{"format": "scope-play", "dit": {"width": 3}}')
    return "config.json: unknown key 'width'"


def vae_of_another_width(folder: Path) -> str:
    state = torch.load(folder / find.VAE_FILE, weights_only=True)
    state["decoder.conv1.bias"] = state["decoder.conv1.bias"][:4]
    torch.save(state, folder / find.VAE_FILE)
    return "decoder.conv1.bias is 4 instead of 32"


def text_encoder_with_a_tensor_more(folder: Path) -> str:
    state = torch.load(folder / find.TEXT_FILE, weights_only=True)
    torch.save(state | {"lm_head.weight": torch.ones(2)}, folder / find.TEXT_FILE)
    return "1 unexpected (lm_head.weight)"


def text_encoder_of_another_model(folder: Path) -> str:
    config = {"format": "scope-play", "text_encoder": asdict(SMALL_TEXT) | {"dim": 64}}
    (folder / "config.json").write_text(json.dumps(config))
    return find.TEXT_FILE


@pytest.mark.parametrize(
    "damage",
    [
        remove_tensor,
        rename_tensor,
        reshape_tensor,
        lose_a_shard,
        lose_a_shard_and_the_index,
        truncate(SHARDS[0]),
        truncate(find.VAE_FILE),
        truncate(find.TEXT_FILE),
        remove(find.VAE_FILE),
        remove(find.VAE_FILE, find.TEXT_FILE),
        lose_the_dit,
        remove(find.TOKENIZER),
        index_out_of_the_folder,
        index_of_nothing,
        index_of_another_model,
        wrong_config,
        vae_of_another_width,
        text_encoder_with_a_tensor_more,
        text_encoder_of_another_model,
    ],
)
def test_damage_is_named_before_anything_is_loaded(damage: Callable[[Path], str], folder: Path) -> None:
    named = damage(folder)
    with pytest.raises(ScopeError) as refusal:
        open_scope_folder(folder)
    assert named in str(refusal.value)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_folder_and_no_tokenizer(folder: Path) -> None:
    with pytest.raises(ScopeError, match="is not a folder"):
        open_scope_folder(folder / "nowhere")
    for file in (folder / find.TOKENIZER).iterdir():
        file.unlink()
    with pytest.raises(ScopeError, match=r"lacks google/umt5-xxl/; complete it"):
        open_scope_folder(folder)


def test_hashes_change_with_the_files(folder: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache" / "hashes.json")
    opened = open_scope_folder(folder)
    before = opened.hashes(cache)
    assert before == {name: sha256_of_file(folder / name) for name in (*SHARDS, find.VAE_FILE, find.TEXT_FILE)}
    assert opened.sha256(cache) == sha256_of_all(before)
    with (folder / find.VAE_FILE).open("ab") as file:
        file.write(b"x")
    assert opened.hashes(cache)[find.VAE_FILE] != before[find.VAE_FILE]


def test_known_hashes_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    first = HashCache(tmp_path / "hashes.json").sha256(file)
    monkeypatch.setattr("scope_play.weights.hashing.sha256_of_file", lambda path: pytest.fail("hashed again"))
    assert HashCache(tmp_path / "hashes.json").sha256(file) == first
    with pytest.raises(ScopeError, match="cannot be read"):
        HashCache(tmp_path / "hashes.json").sha256(tmp_path / "none")


def test_a_broken_hash_cache_only_costs_time(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    (tmp_path / "hashes.json").write_text("{broken")
    assert HashCache(tmp_path / "hashes.json").sha256(file) == sha256_of_file(file)
    (tmp_path / "file").write_text("in the way")
    assert HashCache(tmp_path / "file" / "hashes.json").sha256(file) == sha256_of_file(file)
