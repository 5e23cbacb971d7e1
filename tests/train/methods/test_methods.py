"""Each method on a case worked by hand: Gaussian latents, whose best velocity, path and distribution are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.train.loop import generator
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.causal import Causal
from scope_play.train.methods.consistency import Consistency
from scope_play.train.methods.dmd import DMD, matching_direction
from scope_play.train.methods.flow import Flow
from scope_play.train.methods.method import CRITIC, STUDENT, TEACHER, Method
from scope_play.train.methods.passes import Guidance, clean_from, guided_velocity, levels, teacher_forced, velocity
from scope_play.train.methods.trainer import MethodTrainer, TrainerConfig
from scope_play.train.rollout import play
from tests.helpers.gaussian import Affine, Drawn, Gaussian, play_affine

MEAN, SPREAD = 1.5, 0.4
SMALL = DiTConfig(dim=32, layers=2, heads=2, ffn_dim=48, in_channels=4, out_channels=4, text_dim=8)


def trained(
    method: Method, networks: dict[str, torch.nn.Module], steps: int, cool: int | None = None, **changes: Any
) -> MethodTrainer:
    defaults = {"batch": 32, "micro_batch": 32, "latents": 3, "lr": 0.02, "critic_lr": 0.02, "warmup": 1, "decay": 0.0}
    config = TrainerConfig(**{**defaults, "clip": 100.0, **changes})
    trainer = MethodTrainer("test", method, networks, Drawn(MEAN, SPREAD), config, described={})
    if cool is not None:
        trainer.cool(cool, steps)
    for step in range(steps):
        trainer.update(trainer.batch(step), step)
    return trainer


@pytest.mark.parametrize("method", [Flow(shift=1.0), Causal(window=2, shift=1.0)], ids=["flow", "causal"])
def test_flow_matching_ends_at_the_latents_own_law(method: Method) -> None:
    network = Gaussian(0.0, 1.0)
    trained(method, {STUDENT: network}, 300)
    assert network.mean.item() == pytest.approx(MEAN, abs=0.05)
    assert network.log_spread.exp().item() == pytest.approx(SPREAD, abs=0.05)


def test_consistency_goes_from_noise_to_the_end_of_the_teachers_path() -> None:
    steps = 4
    teacher, ladder = Gaussian(MEAN, SPREAD), levels(steps, 2.0)
    student = Affine(ladder)
    trained(Consistency(window=2, steps=steps, shift=2.0, exact=1.0), {STUDENT: student, TEACHER: teacher}, 600)
    begun = torch.linspace(-2, 2, 5).reshape(5, 1, 1, 1, 1)
    at_end = begun
    with torch.no_grad():
        for sigma, lower in zip(ladder, [*ladder[1:], 0.0], strict=True):
            at_end = at_end + (lower - sigma) * teacher(at_end, torch.full((5, 1), 1000 * sigma))
        found = clean_from(begun, torch.ones(5, 1), student(begun, torch.full((5, 1), 1000.0)))
    torch.testing.assert_close(found, at_end, atol=0.03, rtol=0)


def test_distribution_matching_moves_towards_the_teachers_law_and_ends_there() -> None:
    student = Affine([1.0])
    networks = {STUDENT: student, TEACHER: Gaussian(MEAN, SPREAD), CRITIC: Gaussian(0.0, 0.5)}
    method = DMD(window=2, steps=1, critic_steps=4, judge_shift=1.0, guidance=Guidance(), play=play_affine)
    trained(method, networks, 1500, batch=64, micro_batch=64, cool=700)
    assert student.b[0].item() == pytest.approx(MEAN, abs=0.1)
    assert abs(student.a[0].item()) == pytest.approx(SPREAD, abs=0.12)


def test_the_direction_points_from_what_is_made_too_often_to_what_is_made_too_rarely() -> None:
    made = torch.full((2, 1, 3, 1, 1), 0.5)
    direction = matching_direction(made, real=torch.full_like(made, 2.0), fake=torch.full_like(made, 1.0))
    assert (direction < 0).all()  # the loss moves against it: upwards, to the teacher
    assert (matching_direction(made, made + 1, made + 1) == 0).all()
    scaled = matching_direction(10 * made, real=torch.full_like(made, 20.0), fake=torch.full_like(made, 10.0))
    torch.testing.assert_close(scaled, direction)


def small_batch(count: int = 2, latents: int = 5) -> ClipBatch:
    draw = torch.Generator().manual_seed(3)
    rows = torch.rand(count, 4 * (latents - 1), 10, generator=draw) * 2 - 1
    return ClipBatch(
        torch.randn(count, 4, latents, 4, 4, generator=draw),
        (rows[..., :6] > 0).float(),
        rows[..., 6:],
        torch.randn(count, 6, 8, generator=draw),
    )


@pytest.fixture
def network() -> DiT:
    torch.manual_seed(1)
    network = DiT(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network


def test_no_noisy_latent_is_told_anything_of_what_comes_after_it(network: DiT) -> None:
    batch = small_batch()
    sigma = torch.full((2, 4), 0.7)

    def first_two(latents: torch.Tensor) -> torch.Tensor:
        context, noisy = latents[:, :, :-1], 0.3 * latents[:, :, 1:] + 0.7
        return teacher_forced(network, context, noisy, sigma, replace(batch, latents=latents), 3)[:, :, :2]

    changed = batch.latents.clone()
    changed[:, :, 3:] = 1e4
    with torch.no_grad():
        assert torch.equal(first_two(batch.latents), first_two(changed))
        seen = batch.latents.clone()
        seen[:, :, 1] += 1
        assert not torch.equal(first_two(batch.latents), first_two(seen))


def test_what_was_played_through_caches_is_found_again_in_one_pass(network: DiT) -> None:
    """So the gradient through that pass is the one of the last step of every latent."""
    batch = small_batch()
    sigmas = levels(3, 5.0)[:2]
    played = play(network, batch, sigmas=sigmas, window=3, draw=generator(0, "play", 0))
    level = torch.full((2, 4), sigmas[-1])
    with torch.no_grad():
        found = teacher_forced(network, played.latents[:, :, :-1], played.noisy, level, batch, 3)
    torch.testing.assert_close(clean_from(played.noisy, level, found), played.latents[:, :, 1:], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(played.latents[:, :, 0], batch.latents[:, :, 0])


def test_guidance_steers_by_the_prompt_and_the_actions(network: DiT) -> None:
    batch, sigma = small_batch(), torch.full((2, 5), 0.5)
    nothing = torch.zeros(1, 6, 8)
    with torch.no_grad():
        full = velocity(network, batch.latents, sigma, batch)
        silent = velocity(network, batch.latents, sigma, replace(batch, context=nothing.expand(2, -1, -1)))
        idle = velocity(network, batch.latents, sigma, replace(batch, keep_actions=torch.zeros(2)))
        guided = guided_velocity(network, batch.latents, sigma, batch, Guidance(5.0, 2.0, nothing))
    assert (full - silent).abs().max() > 1e-3
    assert (full - idle).abs().max() > 1e-3
    torch.testing.assert_close(guided, silent + 5 * (full - silent) + (full - idle), atol=1e-4, rtol=1e-4)


def test_dropped_samples_learn_without_prompt_and_actions() -> None:
    batch, nothing = small_batch(64), torch.full((1, 6, 8), 9.0)
    told = batch.dropped(0.5, 0.25, nothing, generator(0, "drop", 0))
    assert told.context is not None
    assert told.keep_actions is not None
    lost = (told.context == 9.0).all((1, 2)).float().mean()
    assert 0.3 < float(lost) < 0.7
    assert 0.6 < float(told.keep_actions.mean()) < 0.9
    assert torch.equal(batch.dropped(0, 0, nothing, generator(0, "drop", 0)).context, batch.context)  # type: ignore[arg-type]


def test_dmd_on_a_real_network_trains_student_and_critic_in_turn_and_leaves_the_teacher(network: DiT) -> None:
    torch.manual_seed(2)
    networks = {STUDENT: network, TEACHER: DiT(SMALL), CRITIC: DiT(SMALL)}
    before = {role: [p.detach().clone() for p in net.parameters()] for role, net in networks.items()}

    class Same:
        def batch(self, samples: range, latents: int, step: int) -> ClipBatch:
            return small_batch(len(samples), latents)

    config = TrainerConfig(batch=2, micro_batch=2, latents=5, lr=1e-3, critic_lr=1e-3, warmup=1)
    method = DMD(window=3, steps=2, critic_steps=1, guidance=Guidance(2.0, 1.5, torch.zeros(1, 6, 8)))
    trainer = MethodTrainer("dmd", method, networks, Same(), config, described={})

    def changed(role: str) -> bool:
        return any((p != q).any() for p, q in zip(networks[role].parameters(), before[role], strict=True))

    assert "critic_error" in trainer.update(trainer.batch(0), 0)
    assert (changed(CRITIC), changed(STUDENT)) == (True, False)
    assert "direction" in trainer.update(trainer.batch(1), 1)
    assert changed(STUDENT)
    assert not changed(TEACHER)
