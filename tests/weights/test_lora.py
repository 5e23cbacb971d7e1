"""LoRA files in the styles of their trainers, merged as weights are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.weights.foreign.lora import LoraSpec
from scope_play.weights.official import open_scope_folder
from tests.helpers.foreign_folders import merged_dit
from tests.helpers.official_folder import write_official_folder

RANK, ALPHA = 4, 2.0
Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.2"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("official") / "SCOPE")


def halves(official: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> (down, up)."""
    torch.manual_seed(3)
    shapes = {name: tensor.shape for name, tensor in merged_dit(official).items()}
    made = {}
    for module in (Q, FFN):
        rows, columns = shapes[f"{module}.weight"]
        made[module] = 0.1 * torch.randn(RANK, columns), 0.1 * torch.randn(rows, RANK)
    return made


def diffsynth(module: str) -> tuple[str, str, None]:
    return f"{module}.lora_A.default.weight", f"{module}.lora_B.default.weight", None


def diffusers(module: str) -> tuple[str, str, None]:
    theirs = {Q: "blocks.0.attn1.to_q", FFN: "blocks.1.ffn.net.2"}[module]
    return f"transformer.{theirs}.lora_A.weight", f"transformer.{theirs}.lora_B.weight", None


def comfy(module: str) -> tuple[str, str, str]:
    start = f"diffusion_model.{module}"
    return f"{start}.lora_down.weight", f"{start}.lora_up.weight", f"{start}.alpha"


def kohya(module: str) -> tuple[str, str, str]:
    start = f"lora_unet_{module.replace('.', '_')}"
    return f"{start}.lora_down.weight", f"{start}.lora_up.weight", f"{start}.alpha"


def peft(module: str) -> tuple[str, str, None]:
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight", None


Style = Callable[[str], tuple[str, str, str | None]]


@pytest.mark.parametrize("style", [diffsynth, diffusers, comfy, kohya, peft])
@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_every_style_changes_the_weights_it_names(style: Style, scale: float, official: Path, tmp_path: Path) -> None:
    state: dict[str, Tensor] = {}
    expected = {name: tensor.float() for name, tensor in merged_dit(official).items()}
    for module, (down, up) in halves(official).items():
        first, second, alpha = style(module)
        state |= {first: down, second: up}
        if alpha is not None:
            state[alpha] = torch.tensor(ALPHA)
        factor = ALPHA / RANK if alpha is not None or style is peft else 1.0
        expected[f"{module}.weight"] += scale * factor * up @ down
    file = tmp_path / ("adapter_model.safetensors" if style is peft else "style.safetensors")
    save_file(state, file)
    if style is peft:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": ALPHA, "r": RANK}))
    spec = LoraSpec.parse(f"{tmp_path if style is peft else file}:{scale}")
    opened = open_scope_folder(official, loras=[spec])
    for name, tensor in opened.dit(torch.float32).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    assert opened.sha256() != open_scope_folder(official).sha256()
    assert opened.sha256() != open_scope_folder(official, loras=[LoraSpec(spec.path, 0.7)]).sha256()


def test_two_files_add_up_and_whole_differences_count(official: Path, tmp_path: Path) -> None:
    before = {name: tensor.float() for name, tensor in merged_dit(official).items()}
    save_file({f"diffusion_model.{Q}.diff": torch.ones_like(before[f"{Q}.weight"])}, tmp_path / "a.safetensors")
    save_file({f"diffusion_model.{Q}.diff_b": torch.ones_like(before[f"{Q}.bias"])}, tmp_path / "b.safetensors")
    specs = [
        LoraSpec(tmp_path / "a.safetensors"),
        LoraSpec(tmp_path / "a.safetensors", 2),
        LoraSpec(tmp_path / "b.safetensors"),
    ]
    after = open_scope_folder(official, loras=specs).dit(torch.float32).state_dict()
    torch.testing.assert_close(after[f"{Q}.weight"], before[f"{Q}.weight"] + 3)
    torch.testing.assert_close(after[f"{Q}.bias"], before[f"{Q}.bias"] + 1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"blocks.7.self_attn.q.lora_A.weight": (4, 128)}, "'blocks.7.self_attn.q', which this model does not have"),
        ({f"{Q}.lora_A.weight": (4, 128)}, "only one half"),
        ({f"{Q}.lora_A.weight": (4, 99), f"{Q}.lora_B.weight": (128, 4)}, r"do not fit \(128, 128\)"),
        ({f"{Q}.weight": (4, 4)}, "of no known kind of LoRA"),
    ],
)
def test_files_for_another_model_are_named(
    names: dict[str, tuple[int, ...]], said: str, official: Path, tmp_path: Path
) -> None:
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ScopeError, match=said):
        open_scope_folder(official, loras=[LoraSpec(tmp_path / "x.safetensors")])


def test_scales_and_colons_in_names(tmp_path: Path) -> None:
    (tmp_path / "a:b.safetensors").touch()
    assert LoraSpec.parse(f"{tmp_path}/a:b.safetensors") == LoraSpec(tmp_path / "a:b.safetensors")
    assert LoraSpec.parse(f"{tmp_path}/a:b.safetensors:0.5").scale == 0.5
    with pytest.raises(ScopeError, match="'much' is no scale"):
        LoraSpec.parse("x.safetensors:much")
    with pytest.raises(ScopeError, match="is no scale"):
        LoraSpec.parse("x.safetensors:nan")
