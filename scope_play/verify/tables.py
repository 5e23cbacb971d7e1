"""The reference's tables and small vectors (schedules, cleaned prompts, action files, images) against our functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from scope_play.actions import as_model_actions, fit_rows, read_actions
from scope_play.images import crop_and_resize, frames_at_least, frames_at_most, round_size, to_frames, to_video
from scope_play.model.dit.action import window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.umt5.tokenizer import clean_prompt
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from scope_play.verify.golden import Check, GoldenFolder, largest_difference


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
    for dtype in (torch.float32, torch.bfloat16):
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


def window_index(latents: int) -> torch.Tensor:
    """Which row each of the 16 places of each window holds, (latents, 16), as the network cuts windows."""
    numbers = torch.arange(4 * max(1, latents))[None, :, None]
    return window_rows(numbers, latents, ActionConfig())[0, :, :, 0]


TABLES: dict[str, Callable[[GoldenFolder], Iterator[Check]]] = {
    "scheduler/scheduler.safetensors": check_scheduler,
    "tokenizer/clean.json": check_cleaning,
    "actions/load_actions.json": check_actions,
    "images/images.json": check_images,
}
