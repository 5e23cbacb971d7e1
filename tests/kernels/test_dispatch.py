from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.kernels import describe, dispatch, select

SCOPE = {"heads": 24, "head_dim": 128}


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton as it stands on a machine with an sm_90 GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H100")
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)


def test_auto_takes_the_twins_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOPE_PLAY_KERNELS", raising=False)
    kernels = select("cpu", torch.float32, **SCOPE)
    assert kernels.backend == "torch"
    assert "NVIDIA GPU" in kernels.reason or "interpreting" in kernels.reason
    assert kernels.pixel_attention.__module__.endswith("pixel_attention_torch")


def test_triton_is_never_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "triton")
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    with pytest.raises(ScopeError, match=r"SCOPE_PLAY_KERNELS=triton, but Triton needs an NVIDIA GPU"):
        select("cpu", torch.float32, **SCOPE)


def test_the_setting_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "torch")
    assert select("cpu", torch.float32, **SCOPE).reason == "SCOPE_PLAY_KERNELS=torch"
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "fast")
    with pytest.raises(ScopeError, match="'fast', but must be one of auto, triton, torch"):
        select("cpu", torch.float32, **SCOPE)


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize(
    ("dtype", "shape", "says"),
    [
        (torch.float64, SCOPE, "float64"),
        (torch.bfloat16, {"heads": 2, "head_dim": 144}, "2 x 144"),
        (torch.bfloat16, {"heads": 3, "head_dim": 18}, "3 x 18"),
    ],
)
def test_obstacles_are_named(dtype: torch.dtype, shape: dict[str, int], says: str) -> None:
    obstacle = dispatch.triton_obstacle("cuda", dtype, **shape)
    assert obstacle is not None
    assert says in obstacle


@pytest.mark.usefixtures("no_gpu_needed")
def test_scope_runs_on_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOPE_PLAY_KERNELS", raising=False)
    kernels = select("cuda", torch.bfloat16, **SCOPE, latents=4)
    assert kernels.backend == "triton"
    assert kernels.norm_rope.__module__ == "scope_play.kernels.norm_rope"


@pytest.mark.usefixtures("no_gpu_needed")
def test_one_kernel_that_cannot_serve_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOPE_PLAY_KERNELS", raising=False)
    kernels = select("cuda", torch.bfloat16, **SCOPE, latents=5)
    assert kernels.backend == "triton"
    assert kernels.pixel_attention.__module__.endswith("pixel_attention_torch")
    assert kernels.norm_rope.__module__ == "scope_play.kernels.norm_rope"
    assert "pixel attention in PyTorch, as it knows chunks of up to 4 latents, not 5" in kernels.reason
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "triton")
    with pytest.raises(ScopeError, match="but of pixel attention it knows chunks of up to 4"):
        select("cuda", torch.bfloat16, **SCOPE, latents=5)


def test_describe_tells_the_choice_and_the_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "torch")
    report = describe()
    assert report["kernels"].startswith("torch (SCOPE_PLAY_KERNELS=torch")
    assert "sdpa: available" in report["attention"]
    monkeypatch.setenv("SCOPE_PLAY_KERNELS", "nonsense")
    assert "nonsense" in describe()["kernels"]


def test_importing_the_room_is_light() -> None:
    code = "import sys, scope_play.kernels; sys.exit(any(m in sys.modules for m in ('torch', 'triton')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
