"""Runs golden vectors of the reference through our networks and measures the differences.

The limits are the reference's own recommendations: 5-10 times its rounding noise in float32, and about twice its
bfloat16-to-float32 difference where the golden was computed in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionModule, ActionWindows, TimePlan, window_rows
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layers import pixel_rotation
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
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
    decode_frames,
    denoise,
    draw_noise,
    encode_image,
)
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from scope_play.verify.golden import Case, Check, GoldenFolder, largest_difference
from scope_play.verify.tables import TABLES

PIXEL_LEVELS = 127.5
"""uint8 levels per unit of a video in [-1, 1]."""


@dataclass(frozen=True)
class Limits:
    """Largest absolute differences allowed of each network's outputs. A video may also differ by one uint8 level."""

    action: float
    dit: float
    vae: float
    text: float
    latents: float


LIMITS = {
    torch.float32: Limits(action=2e-5, dit=2e-5, vae=5e-5, text=5e-5, latents=2e-4),
    torch.bfloat16: Limits(action=0.05, dit=0.086, vae=0.16, text=0.16, latents=0.086),
}
PIXEL_SHARE = 0.001
"""Share of uint8 values that may differ, in float32, by one level."""


class Setup:
    """One case set up on a device: its tensors, and its networks with their weights."""

    def __init__(self, folder: GoldenFolder, case: Case, device: torch.device) -> None:
        self.folder, self.case, self.device, self.dtype = folder, case, device, case.dtype
        self.golden = folder.tensors(case.file, device)
        self.limits = LIMITS[case.dtype]

    def get(self, name: str) -> Tensor | None:
        return self.golden.get(name)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.golden:
            raise ScopeError(f"{self.folder.root / self.case.file} has no tensor {name}; copy the folder again.")
        return self.golden[name]

    def fill(self, network: nn.Module, part: str = "") -> Any:
        """`network` with the case's weights, in its dtype, on the device."""
        name = self.case.weights[part]
        try:
            network.load_state_dict(self.folder.tensors(name))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ScopeError(f"{self.folder.root / name} does not fit {self.case.id}: {reason}") from error
        return network.to(self.device, self.dtype).eval().requires_grad_(False)

    def dit(self, part: str = "") -> DiT:
        return self.fill(DiT(DiTConfig.from_reference(self.case.config[part])), part)

    def vae(self, part: str = "") -> WanVAE:
        return WanVAE(self.fill(VAENetwork(VAEConfig.from_reference(self.case.config[part])), part))

    def text(self, part: str = "") -> TextEncoder:
        return self.fill(TextEncoder(TextEncoderConfig.from_reference(self.case.config[part])), part)

    def tiling(self) -> Tiling | None:
        if not self.case.params.get("tiled"):
            return None
        default = Tiling()
        size = self.case.params.get("tile_size", default.size)
        stride = self.case.params.get("tile_stride", default.stride)
        return Tiling(tuple(size), tuple(stride))

    def close(self, quantity: str, ours: Tensor, golden: Tensor, limit: float) -> Check:
        return Check(self.case.id, quantity, largest_difference(ours, golden), limit)


def check_action_module(setup: Setup) -> Iterator[Check]:
    values, frames = setup.case.config[""], setup.case.params["f"]
    action = ActionConfig(
        axes=values["mouse_dim_in"],
        buttons=values["keyboard_dim_in"],
        frames_per_latent=values["vae_time_compression_ratio"],
        windows=values["windows_size"],
    )
    config = DiTConfig(dim=values["dim"], heads=values["num_heads"], action=action)
    module = setup.fill(ActionModule(config))
    sticks, buttons = setup.get("in.mouse"), setup.get("in.keyboard")
    windows = ActionWindows(
        None if sticks is None else window_rows(sticks, frames, action),
        None if buttons is None else window_rows(buttons, frames, action),
    )
    rotation = pixel_rotation(torch.arange(frames, device=setup.device), config.head_dim)
    x = rearrange(setup["in.x"], "b (f s) c -> b f s c", f=frames)
    condition = module.condition(windows, rotation)
    out = rearrange(module(x, condition, TimePlan(rotation, None)), "b f s c -> b (f s) c")
    yield setup.close("hidden states", out, setup["out.x"], setup.limits.action)


def check_dit(setup: Setup) -> Iterator[Check]:
    conditions = Conditions(setup["in.context"], None, setup.get("in.keyboard"), setup.get("in.mouse"))
    plain = Sampling(guidance=1.0)
    velocity = GuidedVelocity(setup.dit(), conditions, plain, image_given=setup.case.params["fused"])
    out = velocity(setup["in.latents"], setup["in.timestep"].float())
    yield setup.close("velocity", out, setup["out.noise_pred"], setup.limits.dit)


def check_vae(setup: Setup) -> Iterator[Check]:
    vae, tiling = setup.vae(), setup.tiling()
    if setup.case.params["op"] == "encode":
        latents = vae.encode(setup["in.video"][None], tiling)
        yield setup.close("latents", latents, setup["out.latent"], setup.limits.vae)
        return
    yield setup.close("video", vae.decode(setup["in.latent"], tiling), setup["out.video"], setup.limits.vae)
    raw = setup.get("out.video_unclamped")
    if raw is not None:
        yield setup.close("unclamped", vae.decode(setup["in.latent"], tiling, clamp=False), raw, setup.limits.vae)


def check_text_encoder(setup: Setup) -> Iterator[Check]:
    encoder, ids, mask = setup.text(), setup["in.ids"], setup["in.mask"]
    yield setup.close("encoded", encoder(ids, mask), setup["out.encoder_raw"], setup.limits.text)
    # In a batch the reference zeroes every row from the shortest prompt on; we keep each row's own length.
    kept = encoder.encode(ids, mask) * (torch.arange(ids.shape[1], device=ids.device) < mask.sum(1).min())[:, None]
    yield setup.close("context", kept, setup["out.context"], setup.limits.text)


def check_pipeline(setup: Setup) -> Iterator[Check]:
    """Every stage from the reference's own inputs to it and, in float32, the whole from end to end."""
    params, limits = setup.case.params, setup.limits
    shape = ClipShape(params["num_frames"], params["height"], params["width"])
    sampling = Sampling(
        steps=params["steps"],
        shift=params.get("sigma_shift", Sampling.shift),
        guidance=params["cfg_scale"],
        seed=params["seed"],
    )
    dit, vae, tiling = setup.dit("dit"), setup.vae("vae"), setup.tiling()
    yield from _check_context(setup, guided=sampling.guidance != 1)
    noise = draw_noise(setup["mid.noise"].shape, sampling.seed, setup.dtype, setup.device)
    yield setup.close("noise", noise, setup["mid.noise"], 0)
    first, image = None, setup.get("in.image")
    if image is not None:
        pixels = image.cpu().numpy()
        first = encode_image(vae, pixels, shape, tiling, dtype=setup.dtype, device=setup.device)
        yield setup.close("image latents", first, setup["mid.first_frame_latents"], limits.vae)
    context = Conditions(*map(setup.get, ("mid.context_pos", "mid.context_neg", "in.keyboard", "in.mouse")))
    velocity = GuidedVelocity(dit, context, sampling, image_given=first is not None)
    yield from _check_steps(setup, velocity, sampling)
    video = np.concatenate(list(decode_frames(vae, setup["out.final_latents"], tiling)))
    levels = 1 if setup.dtype == torch.float32 else limits.vae * PIXEL_LEVELS
    yield setup.close("decoded latents", torch.from_numpy(video), setup["out.video_uint8"].cpu(), levels)
    if setup.dtype == torch.float32:
        latents = denoise(velocity, noise, first, make_sigmas(sampling.steps, sampling.shift))
        yield setup.close("final latents", latents, setup["out.final_latents"], limits.latents)
        video = np.concatenate(list(decode_frames(vae, latents, tiling)))
        golden = setup["out.video_uint8"].cpu()
        yield setup.close("frames", torch.from_numpy(video), golden, 1)
        share = (video != golden.numpy()).mean() if video.shape == golden.shape else float("inf")
        yield Check(setup.case.id, "share of frames' values", float(share), PIXEL_SHARE)


def _check_context(setup: Setup, *, guided: bool) -> Iterator[Check]:
    encoder = setup.text("text")
    for sign in ("pos", "neg") if guided else ("pos",):
        context = encoder.encode(setup[f"in.ids_{sign}"], setup[f"in.mask_{sign}"])
        yield setup.close(f"context {sign}", context, setup[f"mid.context_{sign}"], setup.limits.text)


def _check_steps(setup: Setup, velocity: GuidedVelocity, sampling: Sampling) -> Iterator[Check]:
    sigmas = make_sigmas(sampling.steps, sampling.shift)
    timesteps = make_timesteps(sigmas[:-1], setup.dtype)
    yield setup.close("sigmas", sigmas[:-1], setup["mid.sigmas"].cpu(), 0)
    yield setup.close("timesteps", timesteps, setup["mid.model_timestep_in"].float().cpu(), 0)
    errors: dict[str, float] = {}

    def measure(quantity: str, ours: Tensor, golden: Tensor) -> None:
        errors[quantity] = max(errors.get(quantity, 0.0), largest_difference(ours, golden))

    inputs, final = setup["mid.model_latents_in"], setup["out.final_latents"]
    for step, timestep in enumerate(timesteps):
        full, negative = setup["mid.pred_pos"][step], None
        predictions = velocity.predict(inputs[step], timestep)
        measure("velocity", predictions.full, full)
        if predictions.negative is not None:
            negative = setup["mid.pred_neg"][step]
            measure("velocity", predictions.negative, negative)
        combined = combine(Predictions(full, negative, None), sampling.guidance, 1.0)
        measure("guided velocity", combined, setup["mid.pred_combined"][step])
        moved = euler_step(inputs[step], setup["mid.pred_combined"][step], sigmas[step], sigmas[step + 1])
        after = inputs[step + 1] if step + 1 < len(timesteps) else final
        fresh = slice(1 if velocity.image_given else 0, None)
        measure("Euler step", moved[:, :, fresh], after[:, :, fresh])
    yield Check(setup.case.id, "velocity", errors["velocity"], setup.limits.dit)
    yield Check(setup.case.id, "guided velocity", errors["guided velocity"], 0)
    yield Check(setup.case.id, "Euler step", errors["Euler step"], 0)


CASES: dict[str, Callable[[Setup], Iterator[Check]]] = {
    "action_module": check_action_module,
    "dit": check_dit,
    "vae": check_vae,
    "text_encoder": check_text_encoder,
    "pipeline": check_pipeline,
}


TILES = ("tiled", "tile_size", "tile_stride")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "action_module": ("f", "h", "w", "mode"),
    "dit": ("fused", "mode", "mids"),
    "vae": ("op", "raw", "mids", *TILES),
    "text_encoder": ("mids",),
    "pipeline": ("num_frames", "height", "width", "steps", "sigma_shift", "cfg_scale", "seed", *TILES),
}
"""What may stand in a case's `params`, by its kind. A case with more was made by what is not computed here."""


def run_checks(folder: GoldenFolder, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Iterator[Check]:
    """Every case of the index whose dtype is in `dtypes`, then the tables the folder has.

    Raises:
        ScopeError: the index names an unknown kind of case or parameter, or a file is missing or damaged.
    """
    for case in folder.cases:
        if case.kind not in CASES:
            raise ScopeError(f"{folder.root}/index.json has a case of kind {case.kind!r}; known: {', '.join(CASES)}.")
        unknown = [name for name in case.params if name not in PARAMETERS[case.kind]]
        if unknown:
            raise ScopeError(
                f"{folder.root}/index.json, case {case.id!r}, has a parameter {unknown[0]!r} that this version does "
                f"not know, so the case would be judged wrongly; use a newer version."
            )
        if case.dtype in dtypes:
            with torch.no_grad(), exact_arithmetic():
                yield from CASES[case.kind](Setup(folder, case, device))
    for name, check in TABLES.items():
        if folder.has(name):
            yield from check(folder)


def exact_arithmetic() -> AbstractContextManager[None]:
    """On CUDA, convolutions would by default round float32 to TF32, far beyond the limits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
