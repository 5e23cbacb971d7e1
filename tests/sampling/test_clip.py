"""The 81-frame mode against the reference's end-to-end vectors, and its guidance arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.tiling import Tiling
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.sampling.clip import (
    ClipShape,
    Conditions,
    GuidedVelocity,
    Predictions,
    Sampling,
    combine,
    denoise,
    draw_noise,
    encode_image,
    generate_clip,
)
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from tests.helpers.golden import golden_cases, golden_tensors

CASES = golden_cases("pipeline")


class Pipeline:
    """One golden case: networks with its weights, and its inputs."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.golden = golden_tensors(case["file"])
        self.dtype = getattr(torch, case["dtype"])
        self.dit = DiT(DiTConfig.from_reference(case["config"]["dit"]))
        self.dit.load_state_dict(golden_tensors(case["weights"]["dit"]))
        network = VAENetwork(VAEConfig.from_reference(case["config"]["vae"]))
        network.load_state_dict(golden_tensors(case["weights"]["vae"]))
        self.dit.to(self.dtype)
        self.vae = WanVAE(network.to(self.dtype))
        params = case["params"]
        self.shape = ClipShape(params["num_frames"], params["height"], params["width"])
        self.sampling = Sampling(steps=params["steps"], guidance=params["cfg_scale"], seed=params["seed"])
        self.tiling = None
        if params["tiled"]:
            size, stride = params.get("tile_size", (30, 52)), params.get("tile_stride", (15, 26))
            self.tiling = Tiling(tuple(size), tuple(stride))
        names = ("mid.context_pos", "mid.context_neg", "in.keyboard", "in.mouse")
        self.conditions = Conditions(*map(self.golden.get, names))
        self.image = self.golden["in.image"].numpy() if "in.image" in self.golden else None


@pytest.mark.parametrize("case", [case for case in CASES if case["dtype"] == "float32"], ids=lambda case: case["id"])
def test_clips_are_the_references(case: dict[str, Any]) -> None:
    run = Pipeline(case)
    seen: list[tuple[str, int, int]] = []
    frames = generate_clip(
        run.dit,
        run.vae,
        run.conditions,
        run.image,
        run.shape,
        run.sampling,
        dtype=run.dtype,
        tiling=run.tiling,
        progress=lambda *event: seen.append(event),
    )
    expected = run.golden["out.video_uint8"].numpy()
    assert frames.shape == expected.shape
    difference = np.abs(frames.astype(int) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 0.001
    assert ("steps", 4, 4) in seen
    assert seen[-1] == ("decode", run.shape.frames, run.shape.frames)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
@torch.no_grad()
def test_every_step_is_the_references(case: dict[str, Any]) -> None:
    run = Pipeline(case)
    golden, bf16 = run.golden, run.dtype == torch.bfloat16
    limit = 0.09 if bf16 else 2e-4
    assert torch.equal(draw_noise(golden["mid.noise"].shape, 42, run.dtype, "cpu"), golden["mid.noise"])
    first = None
    if run.image is not None:
        first = encode_image(run.vae, run.image, run.shape, run.tiling, dtype=run.dtype, device="cpu")
        torch.testing.assert_close(first, golden["mid.first_frame_latents"], rtol=0, atol=0.16 if bf16 else 5e-5)
    sigmas = make_sigmas(4, 5.0)
    timesteps = make_timesteps(sigmas[:-1], run.dtype)
    assert torch.equal(timesteps, golden["mid.model_timestep_in"].float())
    velocity = GuidedVelocity(run.dit, run.conditions, run.sampling, image_given=first is not None)
    for step in range(4):
        predictions = velocity.predict(golden["mid.model_latents_in"][step], timesteps[step])
        torch.testing.assert_close(predictions.full, golden["mid.pred_pos"][step], rtol=0, atol=limit)
        if run.sampling.guidance != 1:
            assert predictions.negative is not None
            torch.testing.assert_close(predictions.negative, golden["mid.pred_neg"][step], rtol=0, atol=limit)
            given = Predictions(golden["mid.pred_pos"][step], golden["mid.pred_neg"][step], None)
            assert torch.equal(combine(given, run.sampling.guidance, 1.0), golden["mid.pred_combined"][step])
        moved = euler_step(
            golden["mid.model_latents_in"][step], golden["mid.pred_combined"][step], sigmas[step], sigmas[step + 1]
        )
        after = golden["mid.model_latents_in"][step + 1] if step < 3 else golden["out.final_latents"]
        kept = slice(0 if first is None else 1, None)
        assert torch.equal(moved[:, :, kept], after[:, :, kept])


def small_run(**sampling: float) -> tuple[GuidedVelocity, torch.Tensor]:
    torch.manual_seed(0)
    dit = DiT(DiTConfig(dim=48, layers=2, heads=2, ffn_dim=64, in_channels=4, out_channels=4, text_dim=8, freq_dim=16))
    conditions = Conditions(torch.randn(1, 3, 8), torch.randn(1, 3, 8), torch.ones(1, 9, 6), torch.rand(1, 9, 4))
    run = GuidedVelocity(dit, conditions, Sampling(**sampling), image_given=True)  # type: ignore[arg-type]
    return run, torch.randn(1, 4, 3, 4, 4)


@torch.no_grad()
def test_action_guidance_shares_the_full_pass() -> None:
    run, latents = small_run(guidance=5.0, action_guidance=3.0)
    calls: list[object] = []
    run.dit.head.register_forward_pre_hook(lambda *_: calls.append(None))
    full, negative, actionless = run.predict(latents, torch.tensor(500.0))
    assert len(calls) == 3
    assert negative is not None
    assert actionless is not None
    guided = combine(Predictions(full, negative, actionless), 5.0, 3.0)
    torch.testing.assert_close(guided, negative + 5 * (full - negative) + 2 * (full - actionless))
    without_text = combine(Predictions(full, None, actionless), 1.0, 3.0)
    torch.testing.assert_close(without_text, actionless + 3 * (full - actionless))
    bare = run.dit(latents, torch.tensor([[0.0, 500.0]]), timestep_index=torch.tensor([0, 1, 1]), text_cache=run.text)
    torch.testing.assert_close(actionless, bare)


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [({"guidance": 1.0}, 1), ({"guidance": 5.0}, 2), ({"guidance": 1.0, "action_guidance": 2.0}, 2)],
)
@torch.no_grad()
def test_no_pass_is_made_that_nobody_needs(sampling: dict[str, float], passes: int) -> None:
    run, latents = small_run(**sampling)
    calls: list[object] = []
    run.dit.head.register_forward_pre_hook(lambda *_: calls.append(None))
    run(latents, torch.tensor(500.0))
    assert len(calls) == passes


def test_latents_that_are_no_numbers_stop_the_clip_at_their_step() -> None:
    calls = []

    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        calls.append(timestep)
        return latents / (0.0 if len(calls) == 3 else 1.0)

    with pytest.raises(ScopeError, match="no numbers any more after step 3 of 6"):
        denoise(velocity, torch.randn(1, 4, 2, 3, 3), None, make_sigmas(6, 5.0))
    assert len(calls) == 3
