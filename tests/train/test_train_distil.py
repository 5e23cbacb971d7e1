"""`scope-play train encode, flow, causal, dmd, plan` as typed, on a small folder of the released layout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scope_play import cli
from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.train.methods.flow import Flow
from scope_play.train.methods.method import STUDENT
from scope_play.train.tune.plan import plan
from scope_play.train.tune.recipe import KINDS, read_recipe
from scope_play.train.tune.tune import Request, train_method
from scope_play.weights.foreign.lora import LoraSpec
from scope_play.weights.official import open_scope_folder
from tests.helpers.official_folder import SMALL_DIT, write_official_folder
from tests.helpers.recordings import record
from tests.train.methods.ranks_user import Drawn
from tests.train.test_train_shards import crossfps, tar_of

SMALL = ["--set", "trainer.batch=2", "--set", "trainer.latents=4", "--set", "lora.rank=2", "--set", "lora.alpha=4"]
FAST = ["--set", "trainer.lr=1e-2", "--set", "trainer.warmup=1"]


def scope_play(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("scope") / "model")


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, one of them with a rewind, and a tar of clips in both layouts."""
    folder = tmp_path_factory.mktemp("data")
    record(folder / "clips", 10, rewinds={5: 1})
    record(folder / "clips", 6)
    clips = [crossfps(folder / "17", 17, "a hangar"), crossfps(folder / "18", 21, None, older=True)]
    tar = tar_of(folder / "part.tar", clips, flat=True)
    words = ["--model", model, "--out", folder / "shards", "--size", 64, 96, "--validation", 0]
    assert scope_play("train", "encode", folder / "clips", tar, *words) == 0
    return folder / "shards"


@pytest.fixture(scope="module")
def tuned(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tuned") / "run"
    words = ["--data", data, "--start", model, "--out", run, "--steps", 3, *SMALL, *FAST, "--precision", "fp32"]
    assert scope_play("train", "flow", *words) == 0
    return run


def made(model: Path, *loras: str) -> np.ndarray:
    """What five frames of a clip become, the network's own dtype apart."""
    network = open_scope_folder(
        model,
        loras=[LoraSpec.parse(lora) for lora in loras],
    ).dit(torch.float32)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(1, SMALL_DIT.in_channels, 2, 4, 6, generator=draw)
    rows = torch.rand(1, 4, 10, generator=draw)
    with torch.no_grad():
        out = network(x, torch.tensor([[0.0, 700.0]]), context=torch.randn(1, 5, 32, generator=draw),
                      buttons=rows[..., :6], sticks=rows[..., 6:])  # fmt: skip
    return out.numpy()


def test_tuned_changes_and_the_merged_folder_are_one_network(model: Path, tuned: Path) -> None:
    by_file, merged = made(model, str(tuned / "lora.safetensors")), made(tuned / "weights")
    assert np.abs(by_file - made(model)).max() > 1e-2
    assert np.allclose(by_file, merged, atol=2e-2)  # the folder is in bfloat16
    assert all(".lora_A." in name or ".lora_B." in name for name in load_file(tuned / "lora.safetensors"))
    assert "`flow` from" in (tuned / "weights" / "README.md").read_text()


def test_a_causal_student_of_few_steps_plays_as_it_was_made_to(model: Path, data: Path, tmp_path: Path) -> None:
    from scope_play.world import World

    common = ["--data", data, *SMALL, *FAST, "--precision", "fp32", "--set", "method.window=3"]
    causal, student = tmp_path / "causal", tmp_path / "student"
    assert scope_play("train", "causal", "--start", model, "--out", causal, "--steps", 2, *common) == 0
    words = [
        "--start",
        causal / "weights",
        "--teacher",
        model,
        "--set",
        "method.steps=2",
        "--set",
        "method.critic_steps=1",
    ]
    assert scope_play("train", "dmd", *words, "--out", student, "--steps", 2, *common) == 0
    world = World.load(student / "weights", device="cpu")
    spec = world.spec
    assert (spec.causal, spec.stream.steps, spec.stream.window, spec.stream.guidance) == (True, 2, 3, 1.0)
    lines = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert ["critic_error" in line for line in lines] == [True, False]


def test_a_run_goes_on_from_its_checkpoint_to_the_same_end(model: Path, data: Path, tmp_path: Path) -> None:
    common = ["--data", data, "--start", model, *SMALL, *FAST, "--precision", "fp32"]
    assert scope_play("train", "flow", "--out", tmp_path / "whole", "--steps", 4, *common) == 0
    assert scope_play("train", "flow", "--out", tmp_path / "part", "--steps", 2, *common) == 0
    words = ["--out", tmp_path / "part", "--resume", tmp_path / "part", "--steps", 4]
    assert scope_play("train", "flow", *words, *common) == 0
    whole, part = (load_file(tmp_path / name / "lora.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(tensor, part[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "trainer.speed=1"], "has no trainer.speed"),
        (["--set", "trainer.lr"], "must be SECTION.KEY=VALUE"),
        (["--set", "method.shift='x'"], "shift"),
        (
            ["--set", "trainer.latents=4", "--set", "trainer.batch=3", "--set", "trainer.micro_batch=2"],
            "does not divide",
        ),
        (["--set", "trainer.latents=50"], "no train clip of 50 latents"),
        ([], "--minutes or --steps"),
    ],
)
def test_mistakes_cost_one_sentence_and_write_nothing(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    end = [] if sentence.startswith("--minutes") else ["--steps", 1]
    common = ["--data", data, "--start", model, "--out", tmp_path / "run"]
    assert scope_play("train", "flow", *common, *end, *words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_models_shards_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    request = Request("flow", data, "nano", tmp_path / "run", steps=1, words=("trainer.latents=4",))
    with pytest.raises(ScopeError, match=r"knows latents of 212 channels, but .* holds 48"):
        train_method(request)


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_are_whole_and_a_file_changes_what_it_names(kind: str, tmp_path: Path) -> None:
    recipe = read_recipe(kind)
    mine = tmp_path / "mine.toml"
    mine.write_text("[trainer]\nlr = 3e-4\n[lora]\nrank = 0\n")
    changed = read_recipe(kind, mine)
    assert changed == replace(recipe, trainer=replace(recipe.trainer, lr=3e-4), lora=None)


def test_the_plan_agrees_with_torchs_own_tracker() -> None:
    """A step of flow matching on a small network, every weight trained, float32, on this CPU."""
    from torch.distributed._tools.mem_tracker import MemTracker

    from scope_play.model.dit.dit import DiT
    from scope_play.train.methods.trainer import MethodTrainer

    config = DiTConfig(dim=128, layers=4, heads=2, ffn_dim=512, in_channels=4, out_channels=4, text_dim=8)
    recipe = read_recipe("flow", words=["lora.rank=0", "trainer.batch=1", "trainer.latents=9"])
    expected = plan(config, recipe, 1, (24, 24), checkpoints=False)
    torch.manual_seed(0)
    network = DiT(config)

    class Larger(Drawn):
        def batch(self, samples: range, latents: int, step: int):  # type: ignore[no-untyped-def]
            batch = super().batch(samples, latents, step)
            clips = torch.randn(len(samples), 4, latents, 24, 24)
            return replace(batch, latents=clips, context=torch.randn(len(samples), 512, 8))

    trainer = MethodTrainer("flow", Flow(), {STUDENT: network}, Larger(), recipe.trainer, described={})
    trainer.update(trainer.batch(0), 0)  # the optimiser's state is there from the second step on
    tracker = MemTracker()
    tracker.track_external(network, trainer._optimisers[STUDENT])
    with tracker:
        trainer.update(trainer.batch(1), 1)
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    counted = expected.total - expected.parts["in bfloat16"]
    assert counted == pytest.approx(peak, rel=0.1)


def test_the_plan_for_the_released_network_fits_one_card_and_says_what_to_change_where_not() -> None:
    """As a process of its own, as it is typed; nothing is loaded."""
    words = [sys.executable, "-m", "scope_play.cli", "train", "plan", "--method", "flow", "--gpus", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0
    together = re.search(r"together\s+([\d.]+) GiB of 74.5", done.stdout)
    assert together is not None
    assert 30 < float(together[1]) < 74.5
    less = subprocess.run([*words, "--memory", "24"], capture_output=True, text=True, timeout=200)
    assert "does not fit: use more than 1 GPUs" in less.stdout
