"""The fused step with the Triton kernels in the interpreter; tests/kernels/test_interpreter.py runs this file so."""

from __future__ import annotations

import os

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


@pytest.mark.skipif(not INTERPRETING, reason="needs TRITON_INTERPRET=1; tests/kernels/test_interpreter.py sets it")
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
