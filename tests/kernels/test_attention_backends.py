from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.errors import ScopeError
from scope_play.kernels import attention
from scope_play.kernels.attention import sdpa, select_attention
from scope_play.kernels.text_attention import collapse_padding


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


def test_flash_is_taken_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOPE_PLAY_ATTENTION", raising=False)
    # Any module with a flash_attn_func stands in for the package.
    monkeypatch.setattr(attention, "FLASH", {"flash3": (__name__, (9, 0), (9, 0))})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    chosen = select_attention("cuda", torch.bfloat16)
    assert chosen.backend == "flash3"
    assert chosen.call.__name__ == "flash_attn_func"
    assert select_attention("cuda", torch.float32).backend == "sdpa"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    assert select_attention("cuda", torch.bfloat16).backend == "sdpa"


def flash_attn_func(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return sdpa(q, k, v)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data(), batch=st.integers(1, 3), total=st.integers(1, 40))
def test_collapsed_padding_is_exact(data: st.DataObject, batch: int, total: int) -> None:
    lengths = data.draw(st.lists(st.integers(0, total), min_size=batch, max_size=batch))
    needed = min(total, max(lengths) + 1)
    keys = data.draw(st.one_of(st.none(), st.integers(needed, total)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    context = torch.randn(batch, total, 6, generator=generator, dtype=torch.float64)
    for row, length in zip(context, lengths, strict=True):
        row[length:] = 0
    project = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    bias_k, bias_v = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    q = torch.randn(batch, 5, 2, 4, generator=generator, dtype=torch.float64)

    def keys_values(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.gelu(x + 0.3)
        return (x @ project[0] + bias_k).unflatten(-1, (2, 4)), (x @ project[1] + bias_v).unflatten(-1, (2, 4))

    short, bias = collapse_padding(context, lengths, keys)
    assert short.shape[1] == (needed if keys is None else keys)
    got = sdpa(q, *keys_values(short), bias[:, None, None, :].double())
    # float32 holds log n to 1e-7; everything else is float64.
    torch.testing.assert_close(got, sdpa(q, *keys_values(context)), atol=1e-6, rtol=1e-6)


def test_collapse_refuses_what_does_not_fit() -> None:
    context = torch.zeros(1, 8, 4)
    with pytest.raises(ValueError, match=r"\[9\]"):
        collapse_padding(context, [9])
    with pytest.raises(ValueError, match="keys is 3"):
        collapse_padding(context, [3], keys=3)
