"""Runs golden vectors of the reference through our networks and functions and measures the differences.

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

from scope_play.actions import as_model_actions, fit_rows, read_actions, window_index
from scope_play.errors import ScopeError
from scope_play.golden import Case, GoldenFolder
from scope_play.images import crop_and_resize, frames_at_least, frames_at_most, round_size, to_frames, to_video
from scope_play.model.action import ActionModule, ActionWindows, TimePlan, window_rows
from scope_play.model.config import ActionConfig, DiTConfig
from scope_play.model.dit import DiT
from scope_play.model.layers import pixel_rotation
from scope_play.model.prompt import clean_prompt
from scope_play.model.text import TextEncoder, TextEncoderConfig
from scope_play.model.vae import WanVAE
from scope_play.model.vae_config import VAEConfig
from scope_play.model.vae_network import VAENetwork
from scope_play.model.vae_tiling import Tiling
from scope_play.sampling.offline import (
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

PIXEL_LEVELS = 127.5
"""uint8 levels per unit of a video in [-1, 1]."""


@dataclass(frozen=True)
class Check:
    """One comparison: the largest absolute difference found in `quantity`, and the largest allowed."""

    case: str
    quantity: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # NaN does not pass


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


class Bench:
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


def largest_difference(ours: Tensor, golden: Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    if ours.shape != golden.shape:
        return float("inf")
    return float((ours.double() - golden.double()).abs().max())


def check_action_module(bench: Bench) -> Iterator[Check]:
    values, frames = bench.case.config[""], bench.case.params["f"]
    action = ActionConfig(
        axes=values["mouse_dim_in"],
        buttons=values["keyboard_dim_in"],
        frames_per_latent=values["vae_time_compression_ratio"],
        windows=values["windows_size"],
    )
    config = DiTConfig(dim=values["dim"], heads=values["num_heads"], action=action)
    module = bench.fill(ActionModule(config))
    sticks, buttons = bench.get("in.mouse"), bench.get("in.keyboard")
    windows = ActionWindows(
        None if sticks is None else window_rows(sticks, frames, action),
        None if buttons is None else window_rows(buttons, frames, action),
    )
    rotation = pixel_rotation(torch.arange(frames, device=bench.device), config.head_dim)
    x = rearrange(bench["in.x"], "b (f s) c -> b f s c", f=frames)
    condition = module.condition(windows, rotation)
    out = rearrange(module(x, condition, TimePlan(rotation, None, 0, None)), "b f s c -> b (f s) c")
    yield bench.close("hidden states", out, bench["out.x"], bench.limits.action)


def check_dit(bench: Bench) -> Iterator[Check]:
    conditions = Conditions(bench["in.context"], None, bench.get("in.keyboard"), bench.get("in.mouse"))
    plain = Sampling(guidance=1.0)
    velocity = GuidedVelocity(bench.dit(), conditions, plain, image_given=bench.case.params["fused"])
    out = velocity(bench["in.latents"], bench["in.timestep"].float())
    yield bench.close("velocity", out, bench["out.noise_pred"], bench.limits.dit)


def check_vae(bench: Bench) -> Iterator[Check]:
    vae, tiling = bench.vae(), bench.tiling()
    if bench.case.params["op"] == "encode":
        latents = vae.encode(bench["in.video"][None], tiling)
        yield bench.close("latents", latents, bench["out.latent"], bench.limits.vae)
        return
    yield bench.close("video", vae.decode(bench["in.latent"], tiling), bench["out.video"], bench.limits.vae)
    raw = bench.get("out.video_unclamped")
    if raw is not None:
        yield bench.close("unclamped", vae.decode(bench["in.latent"], tiling, clamp=False), raw, bench.limits.vae)


def check_text_encoder(bench: Bench) -> Iterator[Check]:
    encoder, ids, mask = bench.text(), bench["in.ids"], bench["in.mask"]
    yield bench.close("encoded", encoder(ids, mask), bench["out.encoder_raw"], bench.limits.text)
    # In a batch the reference zeroes every row from the shortest prompt on; we keep each row's own length.
    kept = encoder.encode(ids, mask) * (torch.arange(ids.shape[1], device=ids.device) < mask.sum(1).min())[:, None]
    yield bench.close("context", kept, bench["out.context"], bench.limits.text)


def check_pipeline(bench: Bench) -> Iterator[Check]:
    """Every stage from the reference's own inputs to it and, in float32, the whole from end to end."""
    params, limits = bench.case.params, bench.limits
    shape = ClipShape(params["num_frames"], params["height"], params["width"])
    sampling = Sampling(steps=params["steps"], guidance=params["cfg_scale"], seed=params["seed"])
    dit, vae, tiling = bench.dit("dit"), bench.vae("vae"), bench.tiling()
    yield from _check_context(bench, guided=sampling.guidance != 1)
    noise = draw_noise(bench["mid.noise"].shape, sampling.seed, bench.dtype, bench.device)
    yield bench.close("noise", noise, bench["mid.noise"], 0)
    first, image = None, bench.get("in.image")
    if image is not None:
        pixels = image.cpu().numpy()
        first = encode_image(vae, pixels, shape, tiling, dtype=bench.dtype, device=bench.device)
        yield bench.close("image latents", first, bench["mid.first_frame_latents"], limits.vae)
    context = Conditions(*map(bench.get, ("mid.context_pos", "mid.context_neg", "in.keyboard", "in.mouse")))
    velocity = GuidedVelocity(dit, context, sampling, image_given=first is not None)
    yield from _check_steps(bench, velocity, sampling)
    video = np.concatenate(list(decode_frames(vae, bench["out.final_latents"], tiling)))
    levels = 1 if bench.dtype == torch.float32 else limits.vae * PIXEL_LEVELS
    yield bench.close("decoded latents", torch.from_numpy(video), bench["out.video_uint8"].cpu(), levels)
    if bench.dtype == torch.float32:
        latents = denoise(velocity, noise, first, make_sigmas(sampling.steps, sampling.shift))
        yield bench.close("final latents", latents, bench["out.final_latents"], limits.latents)
        video = np.concatenate(list(decode_frames(vae, latents, tiling)))
        golden = bench["out.video_uint8"].cpu()
        yield bench.close("frames", torch.from_numpy(video), golden, 1)
        share = (video != golden.numpy()).mean() if video.shape == golden.shape else float("inf")
        yield Check(bench.case.id, "share of frames' values", float(share), PIXEL_SHARE)


def _check_context(bench: Bench, *, guided: bool) -> Iterator[Check]:
    encoder = bench.text("text")
    for sign in ("pos", "neg") if guided else ("pos",):
        context = encoder.encode(bench[f"in.ids_{sign}"], bench[f"in.mask_{sign}"])
        yield bench.close(f"context {sign}", context, bench[f"mid.context_{sign}"], bench.limits.text)


def _check_steps(bench: Bench, velocity: GuidedVelocity, sampling: Sampling) -> Iterator[Check]:
    sigmas = make_sigmas(sampling.steps, sampling.shift)
    timesteps = make_timesteps(sigmas[:-1], bench.dtype)
    yield bench.close("sigmas", sigmas[:-1], bench["mid.sigmas"].cpu(), 0)
    yield bench.close("timesteps", timesteps, bench["mid.model_timestep_in"].float().cpu(), 0)
    errors: dict[str, float] = {}

    def measure(quantity: str, ours: Tensor, golden: Tensor) -> None:
        errors[quantity] = max(errors.get(quantity, 0.0), largest_difference(ours, golden))

    inputs, final = bench["mid.model_latents_in"], bench["out.final_latents"]
    for step, timestep in enumerate(timesteps):
        full, negative = bench["mid.pred_pos"][step], None
        predictions = velocity.predict(inputs[step], timestep)
        measure("velocity", predictions.full, full)
        if predictions.negative is not None:
            negative = bench["mid.pred_neg"][step]
            measure("velocity", predictions.negative, negative)
        combined = combine(Predictions(full, negative, None), sampling.guidance, 1.0)
        measure("guided velocity", combined, bench["mid.pred_combined"][step])
        moved = euler_step(inputs[step], bench["mid.pred_combined"][step], sigmas[step], sigmas[step + 1])
        after = inputs[step + 1] if step + 1 < len(timesteps) else final
        fresh = slice(1 if velocity.image_given else 0, None)
        measure("Euler step", moved[:, :, fresh], after[:, :, fresh])
    yield Check(bench.case.id, "velocity", errors["velocity"], bench.limits.dit)
    yield Check(bench.case.id, "guided velocity", errors["guided velocity"], 0)
    yield Check(bench.case.id, "Euler step", errors["Euler step"], 0)


def check_scheduler(folder: GoldenFolder) -> Iterator[Check]:
    golden = folder.tensors("scheduler/scheduler.safetensors")
    for name in sorted(key.removesuffix(".sigmas") for key in golden if key.endswith(".sigmas")):
        steps, shift = (float(part[1:]) for part in name.split("_"))
        sigmas = make_sigmas(int(steps), shift)
        bf16 = make_timesteps(sigmas[:-1], torch.bfloat16)
        yield Check(f"scheduler/{name}", "sigmas", largest_difference(sigmas[:-1], golden[f"{name}.sigmas"]), 0)
        error = largest_difference(bf16, golden[f"{name}.timesteps_bf16"])
        yield Check(f"scheduler/{name}", "bf16 timesteps", error, 0)
    for name in sorted(key.removesuffix(".preds") for key in golden if key.endswith(".preds")):
        latents, velocities = golden[f"{name}.latents"], golden[f"{name}.preds"]
        shift = float(name.split("_")[2][1:])
        sigmas = make_sigmas(len(velocities), shift)
        moved = [euler_step(latents[i], v, sigmas[i], sigmas[i + 1]) for i, v in enumerate(velocities)]
        yield Check(f"scheduler/{name}", "Euler steps", largest_difference(torch.stack(moved), latents[1:]), 0)


def check_cleaning(folder: GoldenFolder) -> Iterator[Check]:
    cases = folder.json("tokenizer/clean.json")["cases"]
    wrong = sum(clean_prompt(case["input"]) != case["whitespace"] for case in cases)
    yield Check("tokenizer/clean", f"wrong of {len(cases)} prompts", wrong, 0)


def check_actions(folder: GoldenFolder) -> Iterator[Check]:
    golden = folder.tensors("actions/load_actions.safetensors")
    table = folder.json("actions/load_actions.json")
    for case in table["cases"]:
        rows = fit_rows(read_actions(folder.root / case["parquet"]), case["num_frames"])
        buttons, sticks = as_model_actions(rows, dtype=torch.bfloat16)
        for quantity, ours, stored in (("buttons", buttons, "keyboard"), ("sticks", sticks, "mouse")):
            error = largest_difference(ours, golden[f"{case['name']}.{stored}"])
            yield Check(f"actions/{case['name']}", quantity, error, 0)
    counts = table["compute_num_frames"]
    wrong = sum(frames_at_most(int(frames)) != fitting for frames, fitting in counts.items())
    yield Check("actions/frames", f"wrong of {len(counts)} counts", wrong, 0)
    windows = folder.json("action_module/window_index_table.json")["table"]
    wrong = sum(window_index(int(latents)).tolist() != rows for latents, rows in windows.items())
    yield Check("actions/windows", f"wrong of {len(windows)} tables", wrong, 0)


def check_images(folder: GoldenFolder) -> Iterator[Check]:
    golden, table = folder.tensors("images/images.safetensors"), folder.json("images/images.json")
    for case in table["crop_and_resize"]:
        out = crop_and_resize(golden[case["name"] + ".in"].numpy(), case["height"], case["width"])
        error = largest_difference(torch.from_numpy(out.copy()), golden[case["name"] + ".out"])
        yield Check(f"images/{case['name']}", "levels", error, 0)
    for dtype in LIMITS:
        name = str(dtype).removeprefix("torch.")
        scaled = to_video(golden["preprocess.in"].numpy()[None], dtype)[:, :, 0]
        error = largest_difference(scaled, golden[f"preprocess.{name}"])
        yield Check(f"images/preprocess_{name}", "values", error, 0)
        levels = torch.from_numpy(to_frames(golden[f"quantise.{name}.in"]))
        error = largest_difference(levels, golden[f"quantise.{name}.out"])
        yield Check(f"images/quantise_{name}", "levels", error, 0)
    sizes = table["check_resize_height_width"]
    wrong = sum(
        [*round_size(*case["input"][:2]), frames_at_least(case["input"][2])] != case["output"] for case in sizes
    )
    yield Check("images/sizes", f"wrong of {len(sizes)} sizes", wrong, 0)


CASES: dict[str, Callable[[Bench], Iterator[Check]]] = {
    "action_module": check_action_module,
    "dit": check_dit,
    "vae": check_vae,
    "text_encoder": check_text_encoder,
    "pipeline": check_pipeline,
}
TABLES: dict[str, Callable[[GoldenFolder], Iterator[Check]]] = {
    "scheduler/scheduler.safetensors": check_scheduler,
    "tokenizer/clean.json": check_cleaning,
    "actions/load_actions.json": check_actions,
    "images/images.json": check_images,
}


def run_checks(folder: GoldenFolder, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Iterator[Check]:
    """Every case of the index whose dtype is in `dtypes`, then the tables the folder has.

    Raises:
        ScopeError: the index names a kind of case that is not known here, or a file is missing or damaged.
    """
    for case in folder.cases:
        if case.kind not in CASES:
            raise ScopeError(f"{folder.root}/index.json has a case of kind {case.kind!r}; known: {', '.join(CASES)}.")
        if case.dtype in dtypes:
            with torch.no_grad(), exact_arithmetic():
                yield from CASES[case.kind](Bench(folder, case, device))
    for name, check in TABLES.items():
        if folder.has(name):
            yield from check(folder)


def exact_arithmetic() -> AbstractContextManager[None]:
    """On CUDA, convolutions would by default round float32 to TF32, far beyond the limits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
