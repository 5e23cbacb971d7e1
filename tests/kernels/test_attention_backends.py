from __future__ import annotations

import math

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.kernels import attention
from scope_play.kernels.attention import sdpa, select_attention


def test_sdpa_keeps_heads_last() -> None:
    q, k, v = torch.randn(2, 5, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(8)
    torch.testing.assert_close(sdpa(q, k, v), torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v))


def test_choice_of_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOPE_PLAY_ATTENTION", raising=False)
    assert select_attention("cpu", torch.float32).backend == "sdpa"
    monkeypatch.setenv("SCOPE_PLAY_ATTENTION", "flash3")
    with pytest.raises(ScopeError, match="SCOPE_PLAY_ATTENTION=flash3, but flash3 needs an NVIDIA GPU"):
        select_attention("cpu", torch.float32)
    monkeypatch.setenv("SCOPE_PLAY_ATTENTION", "warp")
    with pytest.raises(ScopeError, match="'warp'"):
        select_attention("cpu", torch.float32)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with a flash_attn_func, this one, stands in for the package, and what it is tried with is on the CPU."""
    monkeypatch.delenv("SCOPE_PLAY_ATTENTION", raising=False)
    monkeypatch.setattr(attention, "FLASH", {"flash3": (__name__, (9, 0), (9, 0))})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(attention, "probe", lambda device, dtype: torch.ones(1, 4, 1, 8))


@pytest.mark.usefixtures("hopper")
def test_flash_is_taken_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = select_attention("cuda", torch.bfloat16)
    assert chosen.backend == "flash3"
    assert chosen.call.__name__ == "flash_attn_func"
    assert select_attention("cuda", torch.float32).backend == "sdpa"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    assert select_attention("cuda", torch.bfloat16).backend == "sdpa"


@pytest.mark.usefixtures("hopper")
def test_flash_is_tried_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(globals(), "flash_attn_func", broken)
    assert select_attention("cuda", torch.bfloat16).backend == "sdpa"
    monkeypatch.setenv("SCOPE_PLAY_ATTENTION", "flash3")
    with pytest.raises(ScopeError, match=r"does not work here .*no kernel image"):
        select_attention("cuda", torch.bfloat16)


@pytest.mark.usefixtures("hopper")
def test_builds_that_return_a_pair_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "flash_attn_func", lambda q, k, v: (sdpa(q, k, v), "what the softmax was"))
    q = torch.randn(1, 5, 2, 8)
    assert torch.equal(select_attention("cuda", torch.bfloat16).call(q, q, q), sdpa(q, q, q))


def flash_attn_func(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return sdpa(q, k, v)
