"""The three trainings on a small stand-in world: they learn, and resuming repeats an unbroken run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import Finish
from scope_play.train import checkpoint
from scope_play.train.autoencoder import AutoencoderRecipe, AutoencoderTrainer
from scope_play.train.cells import windows
from scope_play.train.data.pool import Pool
from scope_play.train.data.sources import Moments
from scope_play.train.loop import Budget, Run, Trainer
from scope_play.train.nano import fit_and_cool
from scope_play.train.optim.muon import OptimiserConfig
from scope_play.train.student import StudentRecipe, StudentTrainer
from scope_play.train.world import WorldRecipe, WorldTrainer, cost, initialise
from tests.helpers.small_codec import small_codec

pytestmark = pytest.mark.usefixtures("quick_look")

CODEC = small_codec(frame=(32, 32))
WORLD = DiTConfig(
    dim=32,
    layers=2,
    heads=2,
    ffn_dim=48,
    in_channels=32,
    out_channels=32,
    patch=(1, 1, 1),
    text_dim=None,
    causal=True,
    prediction="clean",
    noise_scale=0.5,
)
FAST = OptimiserConfig(lr=5e-3, warmup=3)
AUTOENCODER_RECIPE = AutoencoderRecipe(
    pool=24,
    fresh=4,
    moments=8,
    cells=24,
    pictures=4,
    micro_batch=4,
    fit=40,
    average=0.9,
    optimiser=OptimiserConfig(lr=5e-3, adam_scale=1.0, warmup=3, muon=False),
)
WORLD_RECIPE = WorldRecipe(
    clips=4, micro_batch=2, pure_noise=0.6, latents=6, window=3, own_context_after=2, optimiser=FAST
)
STUDENT_RECIPE = StudentRecipe(
    clips=4,
    micro_batch=2,
    latents=6,
    longest=8,
    growth=4,
    segment=4,
    window=3,
    teacher_latents=5,
    teacher_every=3,
    sigmas=(1.0, 0.5),
    optimiser=FAST,
)


def make(kind: str, waves: Any, codec: NanoCodec | None = None, **settings: Any) -> Trainer[Any]:
    """A trainer; that of a world with an autoencoder that has learned nothing, or with `codec`."""
    if kind == "autoencoder":
        return AutoencoderTrainer(CODEC, waves, recipe=AUTOENCODER_RECIPE, **settings)
    torch.manual_seed(0)
    codec = codec or NanoCodec(CODEC).eval().requires_grad_(False)
    trainer = WorldTrainer if kind == "world" else StudentTrainer
    recipe = WORLD_RECIPE if kind == "world" else STUDENT_RECIPE
    return trainer(initialise(DiT(WORLD), 0), codec, waves, recipe=recipe, **settings)  # type: ignore[arg-type]


def fitted(waves: Any) -> NanoCodec:
    """An autoencoder that has learned to draw."""
    trainer = AutoencoderTrainer(CODEC, waves, recipe=AUTOENCODER_RECIPE)
    for step in range(80):
        trainer.update(trainer.batch(step), step)
    return trainer.averaged().requires_grad_(False)


def train(
    trainer: Trainer[Any], folder: Path, steps: int, resume: Path | None = None, sheets: float | None = None
) -> list[dict[str, Any]]:
    run = Run(folder, trainer, log_every=1, sheet_every=sheets, report=lambda _: None)
    if resume:
        run.resume(resume)
    run.fit(Budget(steps=steps))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", ["autoencoder", "world", "student"])
def test_two_halves_are_the_whole(kind: str, waves: Any, tmp_path: Path) -> None:
    whole = train(make(kind, waves), tmp_path / "whole", 4)
    first = train(make(kind, waves), tmp_path / "half", 2)
    second = train(make(kind, waves), tmp_path / "rest", 4, resume=tmp_path / "half")
    assert [line["step"] for line in first + second] == [line["step"] for line in whole]
    for ours, theirs in zip(first + second, whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
    ours, theirs = checkpoint.load(tmp_path / "rest")[1], checkpoint.load(tmp_path / "whole")[1]
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["autoencoder", "world"])
def test_threads_do_not_change_the_numbers(kind: str, waves: Any, tmp_path: Path) -> None:
    alone = train(make(kind, waves), tmp_path / "one", 3)
    together = train(make(kind, waves, threads=2), tmp_path / "two", 3)
    assert [line["loss"] for line in together] == pytest.approx([line["loss"] for line in alone], abs=1e-5)


def test_autoencoder_learns_to_draw_and_to_find(waves: Any, tmp_path: Path) -> None:
    trainer = make("autoencoder", waves)
    assert isinstance(trainer, AutoencoderTrainer)
    before = trainer.validate()[0]
    lines = train(trainer, tmp_path, 70)
    after, sheet = trainer.validate()
    assert after["psnr"] > before["psnr"] + 3
    assert after["psnr_recognised"] > before["psnr_recognised"] + 3
    assert lines[-1]["finding"] < 0.5 * lines[0]["finding"]
    assert sheet.ndim == 3


def test_world_learns_and_listens_to_the_sticks(waves: Any, tmp_path: Path) -> None:
    trainer = make("world", waves, fitted(waves))
    assert isinstance(trainer, WorldTrainer)
    trainer.recipe = replace(trainer.recipe, pure_noise=1.0)
    lines = train(trainer, tmp_path, 80)
    assert lines[-1]["clean_error"] < 0.7 * lines[0]["clean_error"]
    figures, _ = trainer.validate()
    assert figures["next_true"] > figures["next_shuffled"] + 1


def test_small_errors_of_a_clean_prediction_count_by_their_size() -> None:
    errors = torch.tensor([1e-6, 1e-2, 2e-2, 10.0, 20.0])
    clean, velocity = (cost(errors, kind, 1e-3) for kind in ("clean", "velocity"))
    assert torch.equal(velocity, errors.square())
    assert float(clean[0]) < 1e-9
    assert float(clean[2] / clean[1]) == pytest.approx(2, rel=0.1)
    assert float(clean[4] / clean[3]) == pytest.approx(4, rel=0.1)
    assert torch.equal(clean, cost(-errors, "clean", 1e-3))


def test_student_alternates_and_grows(waves: Any) -> None:
    trainer = make("student", waves)
    assert isinstance(trainer, StudentTrainer)
    assert [trainer.length(step) for step in range(7)] == [6, 6, 5, 7, 8, 5, 8]
    clips = trainer.batch(0)
    example = trainer.example(clips, 0, torch.Generator().manual_seed(0))
    assert example.trust is not None
    assert 0 < float(example.trust.min()) <= float(example.trust.max()) <= 1
    # The velocity asked for must lead from the noisy latent to the truth.
    reached = example.noisy - example.sigma[:, None, :, None, None] * example.velocity
    torch.testing.assert_close(reached, clips.latents[:, :, example.segment.targets], atol=1e-5, rtol=1e-5)


def test_run_leaves_metrics_sheets_and_a_checkpoint(waves: Any, tmp_path: Path) -> None:
    train(make("world", waves), tmp_path, 2, sheets=1e9)
    assert list((tmp_path / "sheets").glob("*.png"))
    validation = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-1]["validation"]
    assert {"next_true", "next_shuffled", "next_copy", "rollout_1_3"} <= validation.keys()
    assert checkpoint.load(tmp_path)[2]["kind"] == "world"


def cooled_steps(trainer: Any) -> list[tuple[int, int]]:
    """Where the first and last steps of a trainer's cooling will be noted."""
    noted: list[tuple[int, int]] = []
    cool = trainer.cool
    trainer.cool = lambda first, last: noted.append((first, last)) or cool(first, last)
    return noted


def changed_most(trainer: Any, step: int) -> float:
    """How far the weight that moves most goes in one step."""
    before = {name: tensor.clone() for name, tensor in trainer.state().items() if name.startswith("model/")}
    trainer.update(trainer.batch(step), step)
    return max(float((trainer.state()[name] - tensor).abs().max()) for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["autoencoder", "world"])
def test_nanos_stages_end_at_a_rate_of_nothing(kind: str, waves: Any, tmp_path: Path) -> None:
    trainer = make(kind, waves)
    cooled = cooled_steps(trainer)
    loop = Run(tmp_path / "run", trainer, sheet_every=None, report=lambda _: None)
    fit_and_cool(loop, Budget(steps=5))
    assert loop.step == 5
    assert cooled == [(3, 5)]
    # The rate falls from the third step on: what a step changes falls with it, and after the last nothing does.
    full, half, nothing = (changed_most(trainer, step) for step in (3, 4, 5))
    assert full > half > nothing == 0


class Clock:
    """Time that goes on by a tenth of a second whenever it is looked at."""

    strftime = staticmethod(time.strftime)

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.1
        return self.now


def test_minutes_are_turned_into_steps_by_the_pace_so_far(
    waves: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in ("loop", "nano"):
        monkeypatch.setattr(f"scope_play.train.{module}.time", clock)
    trainer = make("world", waves)
    cooled = cooled_steps(trainer)
    loop = Run(tmp_path / "run", trainer, sheet_every=None, report=lambda _: None)
    fit_and_cool(loop, Budget(minutes=0.05))
    ((first, last),) = cooled
    assert 0.5 < first / last < 0.7
    assert first < loop.step <= last


def test_only_what_is_asked_for_learns(waves: Any) -> None:
    recipe = replace(AUTOENCODER_RECIPE, trained=("field.finish",))
    trainer = AutoencoderTrainer(CODEC, waves, recipe=recipe)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    for step in range(3):
        trainer.update(trainer.batch(step), step)
    changed = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("field.finish")}


def test_windows_count_where_the_finish_sees_all_that_it_will_see() -> None:
    frame, window = (80, 128), (10, 12)
    torch.manual_seed(0)
    finish = Finish(8)
    torch.nn.init.normal_(finish.write.weight, std=0.1)
    cells, counts = windows(frame, window, 200, torch.Generator().manual_seed(3))
    whole = torch.rand(1, 20 * 32, 48)
    with torch.no_grad():
        true = finish(whole, 20)[0]
        for some, count in zip(cells, counts, strict=True):
            part = finish(whole[:, some], window[0])[0]
            torch.testing.assert_close(part[count], true[some][count])
            assert (part - true[some]).abs().amax(1)[~count].max() > 1e-4
    covered = torch.zeros(20 * 32, dtype=torch.bool)
    covered[cells[counts]] = True
    assert covered.all()  # corners too


def test_resuming_another_kind_is_refused(waves: Any, tmp_path: Path) -> None:
    train(make("world", waves), tmp_path, 1)
    run = Run(tmp_path / "other", make("autoencoder", waves), report=lambda _: None)
    with pytest.raises(ScopeError, match="trained with another kind"):
        run.resume(tmp_path)


def test_budget_needs_an_end() -> None:
    with pytest.raises(ScopeError, match="--minutes or --steps"):
        Budget()
    assert Budget(steps=3).spent(3, 0.0)
    assert not Budget(minutes=1).spent(10**6, 59.9)
    assert Budget(minutes=1).spent(0, 60.0)


def test_autoencoder_is_made_for_the_features_that_there_are(waves: Any) -> None:
    with pytest.raises(ScopeError, match="8 features of a frame, but the codec is made for 9"):
        AutoencoderTrainer(small_codec(latent_channels=36), waves, recipe=AUTOENCODER_RECIPE)


def test_the_pool_depends_on_the_step_alone(waves: Any) -> None:
    drawn: list[int] = []

    class Counting:
        def moments(self, count: int, purpose: str, step: int) -> Moments:
            drawn.append(step)
            return waves.moments(count, purpose, step)

    pool = Pool(Counting(), fresh=2, size=8)
    for step in range(4):
        before = pool.at(step)
    assert drawn == list(range(7))  # each drawn once
    again = Pool(Counting(), fresh=2, size=8).at(3)
    assert before.frames.shape[0] == 8
    for name in ("frames", "court", "features"):
        assert torch.equal(getattr(before, name), getattr(again, name))
