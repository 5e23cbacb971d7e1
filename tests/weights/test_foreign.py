"""What people have on disk: the same numbers in other forms and places load, and those of other models are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scope_play.errors import ScopeError
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.weights.checkpoint import load_into
from scope_play.weights.find import TEXT_FILE, TOKENIZER, VAE_FILE, usual_places
from scope_play.weights.foreign.keys import TRANSFORMERS_TEXT, rename_all
from scope_play.weights.official import open_scope_folder
from scope_play.weights.recognise import recognise
from scope_play.weights.sources import open_source
from scope_play.world import World
from tests.helpers.foreign_folders import (
    FORMS,
    as_diffusers,
    diffusers_autoencoder,
    fill,
    merged_dit,
    only_the_dit,
    transformers_encoder,
)
from tests.helpers.official_folder import SMALL_TEXT, SMALL_VAE, write_official_folder, write_spiece


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    for variable in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    for place in ("user_data_path", "user_cache_path"):
        monkeypatch.setattr(f"platformdirs.{place}", lambda *_args, **_kwargs: home / "user")
    monkeypatch.setattr("scope_play.loading.scope.OFFICIAL_SIZE", (64, 96))
    return home


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("official") / "SCOPE")


def states(model: Path, wan: Path | None = None) -> dict[str, dict[str, torch.Tensor]]:
    opened = open_scope_folder(model, wan=wan)
    return {
        "dit": opened.dit().state_dict(),
        "vae": opened.vae(torch.float32).network.state_dict(),
        "text": opened.text_encoder().state_dict(),
    }


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_hold_the_same_numbers(form: str, official: Path, tmp_path: Path) -> None:
    wan = FORMS[form](official, tmp_path / form)
    model = only_the_dit(official, tmp_path / "SCOPE")
    with pytest.raises(ScopeError, match=r"lacks Wan2.2_VAE.pth, models_t5.*--wan"):
        open_scope_folder(model)
    ours, theirs = states(official), states(model, wan)
    for part, state in ours.items():
        assert state.keys() == theirs[part].keys()
        assert all(torch.equal(tensor, theirs[part][name]) for name, tensor in state.items())
    opened = open_scope_folder(model, wan=wan)
    assert opened.tokenizer()(["ok"]).lengths[0] > 1
    assert set(opened.elsewhere()) == {"vae", "text_encoder"}


def test_the_frames_are_those_of_the_official_folder(official: Path, tmp_path: Path) -> None:
    wan = as_diffusers(official, tmp_path / "wan")
    model = only_the_dit(official, tmp_path / "SCOPE")
    first = torch.randint(0, 255, (64, 96, 3), dtype=torch.uint8).numpy()
    rows = torch.zeros(4, 10).numpy()

    def frames(world: World) -> bytes:
        with world.start(first, "a yard", 3) as session:
            return session.step(rows).frames.tobytes()

    assert frames(World.load(model, device="cpu", wan=wan)) == frames(World.load(official, device="cpu"))


def test_our_autoencoder_makes_what_diffusers_makes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = diffusers_autoencoder().eval()
    theirs.save_pretrained(tmp_path)
    part = recognise(open_source(tmp_path / "diffusion_pytorch_model.safetensors"))
    assert not isinstance(part, str)
    from scope_play.model.wan_vae.network import VAENetwork

    vae = WanVAE(load_into(lambda: VAENetwork(SMALL_VAE), part.source, dtype=torch.float32))
    latents, video = torch.randn(1, 48, 2, 4, 6), torch.rand(1, 3, 5, 64, 96) * 2 - 1
    mean, scale = (x.reshape(1, 48, 1, 1, 1) for x in _normalisation())
    with torch.no_grad():
        decoded = theirs.decode(latents * scale + mean).sample
        encoded = (theirs.encode(video).latent_dist.mode() - mean) / scale
    assert (vae.decode(latents) - decoded).abs().max() < 1e-4
    assert (vae.encode(video) - encoded).abs().max() < 1e-4 * encoded.abs().max()


def _normalisation() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(SMALL_VAE.latent_mean), torch.tensor(SMALL_VAE.latent_std)


def test_our_text_encoder_makes_what_transformers_makes(tmp_path: Path) -> None:
    torch.manual_seed(2)
    theirs = transformers_encoder().eval()
    theirs.save_pretrained(tmp_path)
    part = recognise(open_source(tmp_path / "model.safetensors"))
    assert not isinstance(part, str)
    from scope_play.model.umt5.encoder import TextEncoder

    encoder = load_into(lambda: TextEncoder(SMALL_TEXT), part.source, dtype=torch.float32)
    ids, mask = torch.randint(3, 300, (2, 20)), torch.ones(2, 20, dtype=torch.long)
    mask[1, 12:] = 0
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (encoder(ids, mask) - expected)[mask.bool()].abs().max() < 1e-5


def scaled_fp8(state: dict[str, torch.Tensor], style: str, keep: str) -> dict[str, torch.Tensor]:
    """`state` as ComfyUI's 8-bit files have it: matrices as e4m3 and a factor beside each."""
    out: dict[str, torch.Tensor] = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)} if style == "older" else {}
    for name, tensor in state.items():
        if tensor.ndim != 2 or keep in name:
            out[name] = tensor
            continue
        factor = tensor.float().abs().max() / 448
        layer = name.removesuffix(".weight")
        out[name] = (tensor.float() / factor).to(torch.float8_e4m3fn)
        out[f"{layer}.scale_weight" if style == "older" else f"{layer}.weight_scale"] = factor
        if style == "newer":
            out[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    return out


@pytest.mark.parametrize("style", ["older", "newer"])
def test_scaled_8_bit_files_are_weights_times_scales(style: str, official: Path, tmp_path: Path) -> None:
    dit = merged_dit(official)
    stored = scaled_fp8(dit, style, keep="embed")
    save_file({f"model.diffusion_model.{k}": v for k, v in stored.items()}, tmp_path / "scope_fp8.safetensors")
    text = _as_transformers(torch.load(official / TEXT_FILE))
    (tmp_path / "text_encoders").mkdir()
    save_file(
        scaled_fp8(text, style, keep="shared"), tmp_path / "text_encoders" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
    )
    shutil.copy(official / VAE_FILE, tmp_path / VAE_FILE)
    write_spiece(tmp_path / TOKENIZER)
    opened = open_scope_folder(tmp_path / "scope_fp8.safetensors")
    for ours, state in (
        (opened.dit(torch.float32), dit),
        (opened.text_encoder(torch.float32), torch.load(official / TEXT_FILE)),
    ):
        for name, tensor in ours.state_dict().items():
            assert (tensor - state[name].float()).abs().max() <= 0.04 * state[name].float().abs().max(), name
    assert opened.dit_config == open_scope_folder(official).dit_config


def _as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    theirs = fill(transformers_encoder().to(torch.bfloat16), state, TRANSFORMERS_TEXT).state_dict()
    return {there: theirs[there].clone() for there in rename_all(theirs, TRANSFORMERS_TEXT).values()}


def test_parts_are_found_where_other_programs_keep_them(official: Path, own_home: Path, tmp_path: Path) -> None:
    model = only_the_dit(official, tmp_path / "SCOPE")
    comfy = FORMS["comfy"](official, own_home / "ComfyUI" / "models")
    assert comfy in usual_places()
    assert open_scope_folder(model).elsewhere()["vae"] == comfy / "vae" / "wan2.2_vae.safetensors"
    shutil.rmtree(comfy)
    # The Hub's cache: blobs, and a snapshot of links to them.
    repository = own_home / ".cache" / "huggingface" / "hub" / "models--Wan-AI--Wan2.2-TI2V-5B"
    snapshot = repository / "snapshots" / "abc"
    (repository / "blobs").mkdir(parents=True)
    (snapshot / TOKENIZER).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for number, name in enumerate((VAE_FILE, TEXT_FILE, f"{TOKENIZER}/tokenizer.json")):
        shutil.copy(official / name, repository / "blobs" / str(number))
        (snapshot / name).symlink_to(repository / "blobs" / str(number))
    assert open_scope_folder(model).elsewhere() == {"vae": snapshot / VAE_FILE, "text_encoder": snapshot / TEXT_FILE}


def another(official: Path, folder: Path, kind: str) -> str:
    """Puts the file of another model in the place of a part; returns what must be said of it."""
    save: Any = save_file
    if kind == "wan2.1":
        (folder / VAE_FILE).unlink()
        save({"encoder.downsamples.0.residual.2.weight": torch.zeros(8, 8, 3, 3, 3)}, folder / "vae.safetensors")
        return "vae.safetensors is the autoencoder of Wan2.1"
    for shard in folder.glob("model[.-]*"):
        shard.unlink()
    dit = merged_dit(official)
    if kind == "base":
        save({k: v for k, v in dit.items() if "action" not in k}, folder / "wan2.2_ti2v_5B.safetensors")
        return "wan2.2_ti2v_5B.safetensors is a Wan transformer without SCOPE's action modules"
    if kind == "lora":
        save({"blocks.0.ffn.0.lora_A.weight": torch.zeros(2, 8)}, folder / "style.safetensors")
        return "style.safetensors is a LoRA, which --lora takes"
    save({"model.layers.0.mlp.weight": torch.zeros(2)}, folder / "llama.safetensors")
    return "llama.safetensors is none of SCOPE's parts"


@pytest.mark.parametrize("kind", ["wan2.1", "base", "lora", "unknown"])
def test_files_of_another_model_are_named(kind: str, official: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(official, tmp_path / "SCOPE")
    said = another(official, folder, kind)
    with pytest.raises(ScopeError) as refusal:
        open_scope_folder(folder)
    assert said in str(refusal.value)


def test_a_model_may_be_one_file(official: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(official, tmp_path / "SCOPE")
    for file in folder.glob("model[.-]*"):
        file.unlink()
    save_file({f"pipe.dit.{k}": v for k, v in merged_dit(official).items()}, folder / "tuned.safetensors")
    one, many = open_scope_folder(folder / "tuned.safetensors"), open_scope_folder(official)
    assert all(torch.equal(a, b) for a, b in zip(one.dit().parameters(), many.dit().parameters(), strict=True))
    assert "tuned.safetensors" in one.hashes()
    about = json.loads((official / "model.safetensors.index.json").read_text())
    assert load_file(official / next(iter(about["weight_map"].values())))
