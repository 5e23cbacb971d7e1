"""`scope-play train` as it is typed: fine-tuning on recorded clips, and all of nano at a fraction of its size."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scope_play import cli
from scope_play.errors import ScopeError
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.nano_codec.light_field import CameraConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.train import checkpoint
from scope_play.train.build import Options, load_codec, load_nano_codec
from scope_play.train.export import export_native
from scope_play.train.importance import picture_change
from tests.helpers.clip_folder import make_clip
from tests.helpers.recordings import record
from tests.helpers.small_codec import small_codec

TINY_WORLD = DiTConfig(
    dim=32,
    layers=1,
    heads=2,
    ffn_dim=32,
    in_channels=212,
    out_channels=212,
    patch=(1, 1, 1),
    text_dim=None,
    causal=True,
    prediction="clean",
    from_previous=True,
)
TINY_CODEC = asdict(small_codec(latent_channels=212, camera=CameraConfig(sight=48)))
SCOPE_LIKE = DiTConfig(
    dim=32, layers=1, heads=2, ffn_dim=32, in_channels=4, out_channels=4, text_dim=None, action=ActionConfig()
)
SMALL_WAN = {"dim": 8, "dec_dim": 8, "z_dim": 4, "latent_mean": [0.0] * 4, "latent_std": [1.0] * 4}


@pytest.fixture(autouse=True)
def few_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each feature changes in the picture is measured on fewer moments than a training wants."""
    monkeypatch.setattr("scope_play.train.build.picture_change", lambda codec, all: picture_change(codec, all[:4]))


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sizes") / "sizes.json"
    path.write_text(json.dumps({"world": asdict(TINY_WORLD), "codec": TINY_CODEC}))
    return path


@pytest.fixture(scope="module")
def autoencoder(sizes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an autoencoder that has learned nothing yet but the features' mean and spread."""
    run = tmp_path_factory.mktemp("autoencoder") / "run"
    words = ["train", "autoencoder", "--model", sizes, "--size", 32, 64, "--steps", 0, "--no-sheets"]
    assert scope_play(*words, "--recipe", '{"pool": 8, "fresh": 2, "fit": 20}', "--out", run) == 0
    return run


def scope_play(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_fine_tuning_a_scope_like_model_on_two_recorded_clips(tmp_path: Path) -> None:
    for name, brightness in (("a", 30), ("b", 200)):
        make_clip(tmp_path / "clips" / name, 22, brightness)
    model = tmp_path / "scope.json"
    model.write_text(json.dumps({"world": asdict(SCOPE_LIKE), "wan_codec": SMALL_WAN}))
    recipe = json.dumps({"clips": 2, "micro_batch": 1, "latents": 4, "window": 3})
    vae = VAENetwork(VAEConfig(**SMALL_WAN | {"latent_mean": (0.0,) * 4, "latent_std": (1.0,) * 4}))
    save_file({name: part.contiguous() for name, part in vae.state_dict().items()}, tmp_path / "vae.safetensors")
    with pytest.raises(ScopeError, match="give them with --codec"):
        load_codec(Options(model=model), json.loads(model.read_text()))
    common = [
        "--model",
        model,
        "--codec",
        tmp_path / "vae.safetensors",
        "--clips",
        tmp_path / "clips",
        "--size",
        32,
        64,
        "--recipe",
        recipe,
        "--precision",
        "fp32",
    ]
    assert scope_play("train", "world", "--out", tmp_path / "run", "--steps", 2, *common, "--no-sheets") == 0
    resumed = ["--resume", tmp_path / "run", "--no-sheets"]
    assert scope_play("train", "world", "--out", tmp_path / "run", "--steps", 3, *common, *resumed) == 0
    step, tensors, values = checkpoint.load(tmp_path / "run")
    assert step == 3
    assert values["model"]["out_channels"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_nano_goes_on_learning_from_a_recording_with_a_rewind_and_is_played(tmp_path: Path) -> None:
    from scope_play.world import World

    nano = World.load("nano")
    record(tmp_path / "clips", 5, world=nano, rewinds={3: 1}, prompt=None)
    recipe = json.dumps({"clips": 1, "micro_batch": 1, "latents": 3})
    words = ["--clips", tmp_path / "clips", "--start", "nano", "--codec", "nano", "--recipe", recipe, "--no-sheets"]
    assert scope_play("train", "world", "--out", tmp_path / "run", "--steps", 1, *words) == 0
    world = World.load(tmp_path / "run" / "weights")
    assert world.spec == replace(nano.spec, name=world.spec.name, stream=world.spec.stream)
    with world.start(seed=1) as session:
        assert session.step(np.zeros((4, 10), np.float32)).frames.shape == (4, 192, 320, 3)


def test_all_of_nano_in_one_command(tmp_path: Path, sizes: Path) -> None:
    out = tmp_path / "nano"
    words = ["train", "nano", "--model", sizes, "--size", 32, 64, "--steps", 6, "--no-sheets"]
    small = {"clips": 2, "micro_batch": 1}
    codec = {"pool": 8, "fresh": 2, "moments": 2, "cells": 8, "pictures": 2, "micro_batch": 2, "fit": 20}
    recipe = json.dumps({"autoencoder": codec, "world": small, "student": {**small, "latents": 6, "longest": 6}})
    assert scope_play(*words, "--out", out, "--recipe", recipe) == 0
    assert {child.name for child in out.iterdir()} == {"autoencoder", "world", "student", "weights"}
    from scope_play.world import World

    world = World.load(out / "weights")
    assert (world.spec.height, world.spec.width, world.spec.trained, world.spec.stream.steps) == (32, 64, True, 1)
    with world.start(seed=1) as session:
        chunk = session.step(np.zeros((4, 10), np.float32))
    assert chunk.frames.shape == (4, 32, 64, 3)
    before = checkpoint.load(out / "world")[0]
    assert scope_play(*words, "--out", out, "--resume", out, "--recipe", recipe) == 0
    assert checkpoint.load(out / "world")[0] == before


def test_a_cooled_training_ends_at_a_rate_of_nothing(tmp_path: Path, sizes: Path, autoencoder: Path) -> None:
    recipe = json.dumps({"clips": 2, "micro_batch": 1, "optimiser": {"warmup": 1}})
    words = ["--model", sizes, "--size", 32, 64, "--no-sheets"]

    def trained(*more: object) -> torch.Tensor:
        out = tmp_path / "-".join(map(str, more))
        world = ["train", "world", "--out", out, "--codec", autoencoder, *words, "--recipe", recipe]
        assert scope_play(*world, *more) == 0
        return checkpoint.load(out)[1]["model/patch_embedding.weight"]

    four, five, cooled = trained("--steps", 4), trained("--steps", 5), trained("--steps", 5, "--cool")
    assert (five - four).abs().max() > 1e-6
    torch.testing.assert_close(cooled - four, (five - four) / 2, atol=1e-7, rtol=1e-3)


def test_an_autoencoder_run_is_not_a_world(tmp_path: Path, autoencoder: Path) -> None:
    codec = load_nano_codec(Options(codec=autoencoder, size=(32, 64)))

    with pytest.raises(ScopeError, match="not of a world"):
        export_native(autoencoder, codec, tmp_path / "weights")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["world", "--steps", 1], "needs a codec"),
        (["autoencoder", "--steps", 1, "--recipe", '{"optimiser": {"decay": [5, 2]}}'], "later step"),
        (["autoencoder"], "--minutes or --steps"),
        (["autoencoder", "--steps", 1, "--recipe", "{"], "--recipe is not JSON"),
        (["autoencoder", "--steps", 1, "--recipe", '{"speed": 1}'], "recipe does not fit"),
        (["autoencoder", "--steps", 1, "--model", "missing.json"], "could not be read"),
        (["world", "--steps", 1, "--codec", "nowhere"], "holds no checkpoint"),
    ],
)
def test_mistakes_cost_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[object], sentence: str
) -> None:
    assert scope_play("train", *words, "--out", tmp_path / "run") == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_nanos_autoencoder_needs_the_simulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(tmp_path / "clips" / "a", 6, 30)
    words = ["train", "autoencoder", "--steps", 1, "--clips", tmp_path / "clips", "--out", tmp_path / "run"]
    assert scope_play(*words) == 2
    assert "leave out --clips" in capsys.readouterr().err


def test_a_model_folder_starts_a_training_just_where_it_is(tmp_path: Path, sizes: Path, autoencoder: Path) -> None:
    run, again, folder = tmp_path / "run", tmp_path / "again", tmp_path / "weights"
    common = ["--model", sizes, "--size", 32, 64, "--no-sheets", "--recipe"]
    world = '{"clips": 2, "micro_batch": 1}'
    words = [*common, world, "--codec", autoencoder]
    assert scope_play("train", "world", "--out", run, "--steps", 1, *words) == 0
    export_native(run, load_nano_codec(Options(codec=autoencoder)), folder, size=(32, 64))
    assert scope_play("train", "world", "--out", again, "--steps", 0, *words, "--start", folder) == 0
    nano = ["train", "nano", "--out", tmp_path / "nano", "--start", folder, "--codec", folder, *common[:-1]]
    still = json.dumps({kind: json.loads(world) | {"optimiser": {"lr": 0.0}} for kind in ("world", "student")})
    assert scope_play(*nano, "--steps", 2, "--recipe", still) == 0
    for kind in ("world", "student"):
        went_on, began = checkpoint.load(tmp_path / "nano" / kind)[1], checkpoint.load(again)[1]
        assert all(torch.equal(value, went_on[name]) for name, value in began.items() if name.startswith("model/"))
    ours, theirs = checkpoint.load(again)[1], checkpoint.load(run)[1]
    for name, value in ours.items():
        if name.startswith("model/"):
            torch.testing.assert_close(value, theirs[name.replace("model/", "average/", 1)], atol=0.02, rtol=0.1)
    kept, found = load_nano_codec(Options(codec=autoencoder)), load_nano_codec(Options(codec=folder))
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, kept.state_dict()[name], atol=1e-3, rtol=1e-2)
