"""Which form of a network serves where."""

from __future__ import annotations

import pytest

from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import VARIABLE
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.select import network_for_session, network_for_streaming, refuse_kernels

TINY = DiTConfig(dim=32, layers=1, heads=2, ffn_dim=32, in_channels=4, out_channels=4, text_dim=None, freq_dim=16)


def test_the_cache_is_served_by_the_fused_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    chosen = network_for_streaming(DiT(TINY), latents=1)
    assert isinstance(chosen, FusedDiT)
    assert chosen.kernels.backend == "torch"
    assert network_for_session(chosen) is chosen


def test_kernels_asked_for_are_never_left_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "triton")
    with pytest.raises(ScopeError, match="SCOPE_PLAY_KERNELS=triton, but"):
        refuse_kernels("window")
    with pytest.raises(ScopeError, match=r"SCOPE_PLAY_KERNELS=triton, but .*chunks of up to 4"):
        network_for_streaming(DiT(TINY), latents=5)
