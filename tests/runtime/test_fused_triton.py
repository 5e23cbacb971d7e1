"""The fused step with the Triton kernels in the interpreter, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scope_play.kernels import select
from scope_play.kernels.dispatch import VARIABLE
from scope_play.model.dit.dit import DiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.plain_dit import PlainDiT
from tests.helpers.stream_cases import Clip, lively, stream, tiny_config

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@needs_triton
@pytest.mark.skipif(not INTERPRETING, reason="runs in a process of its own: test_in_the_interpreter")
def test_equals_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "triton")
    config = tiny_config(dim=32, layers=1, text_dim=6, prediction="clean", from_previous=True)
    network, clip, cache = lively(DiT(config)), Clip(1, 5), CacheConfig(2, 2)
    kernels = select("cpu", torch.float32, heads=config.heads, head_dim=config.head_dim, latents=2)
    assert kernels.backend == "triton"
    with torch.no_grad():
        text = network.text_keys(torch.randn(1, 3, 6))
        plain = stream(PlainDiT(network), clip, cache, text=text, keep=torch.ones(1))
        ours = stream(FusedDiT(network, kernels), clip, cache, poison=float("nan"), text=text, keep=torch.ones(1))
    torch.testing.assert_close(ours, plain, atol=5e-5, rtol=1e-4)


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the interpreter")
def test_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::test_equals_the_plain_step"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout
