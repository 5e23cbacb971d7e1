"""The PyTorch twins against a literal transcription of SPEC.md sections 2 and 3 in float64, one token at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from scope_play.kernels.button_attention_torch import button_attention
from scope_play.kernels.modulate_torch import action_fuse, gate_add, modulate
from scope_play.kernels.norm_rope_torch import norm_rope
from scope_play.kernels.pixel_attention_torch import pixel_attention
from scope_play.kernels.shapes import chunk_shape, frame_rows
from tests.helpers.kernel_cases import Draw, draws


def literal_norm_rope(row: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """(C,) -> (heads, D): RMSNorm over C, then complex rotation of adjacent pairs."""
    row = row.double()
    normed = (row / (row.square().mean() + 1e-6).sqrt() * weight.double()).view(heads, -1, 2).contiguous()
    return torch.view_as_real(torch.view_as_complex(normed) * torch.complex(cos.double(), sin.double())).flatten(1)


def literal_attention(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """(heads, D) over lists of (heads, D) -> (C,)."""
    scores = torch.stack([(query * key.double()).sum(-1) / math.sqrt(query.shape[-1]) for key in keys])
    weights = scores.softmax(0)
    return sum(w[:, None] * v.double() for w, v in zip(weights, values, strict=True)).flatten()


def fp32(draw: Draw) -> bool:
    return draw.dtype == torch.float32


@settings(max_examples=20, deadline=None, derandomize=True)
@given(draw=draws().filter(fp32))
def test_pixel_attention(draw: Draw) -> None:
    cos, sin = draw.rotation()
    k_cache, v_cache = draw.caches()
    got = pixel_attention(
        draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, (cos, sin), k_cache, v_cache, draw.valid
    )
    for b in range(draw.batch):
        for s in range(draw.tokens):
            own = [
                literal_norm_rope(draw.k[b, i, s], draw.k_weight, cos[0, i, 0], sin[0, i, 0], draw.heads)
                for i in range(draw.latents)
            ]
            keys = own + list(draw.k_cache[b, draw.latents : draw.valid, s])
            values = [draw.v[b, i, s].view(draw.heads, -1) for i in range(draw.latents)]
            values += list(draw.v_cache[b, draw.latents : draw.valid, s])
            for i in range(draw.latents):
                query = literal_norm_rope(draw.q[b, i, s], draw.q_weight, cos[0, i, 0], sin[0, i, 0], draw.heads)
                want = literal_attention(query, keys, values).float()
                torch.testing.assert_close(got[b, i, s], want, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(k_cache[b, i, s], own[i].float(), atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(draw=draws(shared=True).filter(fp32))
def test_button_attention(draw: Draw) -> None:
    cos, sin = draw.rotation()
    got = button_attention(draw.q, draw.q_weight, (cos, sin), draw.k_cache, draw.v_cache, draw.valid)
    for b in range(draw.batch):
        keys, values = list(draw.k_cache[b, : draw.valid, 0]), list(draw.v_cache[b, : draw.valid, 0])
        for i in range(draw.latents):
            for s in range(draw.tokens):
                query = literal_norm_rope(draw.q[b, i, s], draw.q_weight, cos[0, i, 0], sin[0, i, 0], draw.heads)
                want = literal_attention(query, keys, values).float()
                torch.testing.assert_close(got[b, i, s], want, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(draw=draws().filter(fp32))
def test_norm_rope(draw: Draw) -> None:
    cos, sin = draw.rotation(draw.tokens)
    k_cache, v_cache = draw.caches()
    q = norm_rope(draw.q, draw.k, draw.v, draw.q_weight, draw.k_weight, (cos, sin), k_cache, v_cache)
    for i in range(draw.latents):
        for s in range(draw.tokens):
            angle = cos[0, i, s], sin[0, i, s]
            want = literal_norm_rope(draw.q[0, i, s], draw.q_weight, *angle, draw.heads).float()
            torch.testing.assert_close(q[0, i, s], want, atol=1e-5, rtol=1e-5)
            want = literal_norm_rope(draw.k[0, i, s], draw.k_weight, *angle, draw.heads).float()
            torch.testing.assert_close(k_cache[0, i, s], want, atol=1e-5, rtol=1e-5)
            assert torch.equal(v_cache[0, i, s].flatten(), draw.v[0, i, s])


def test_elementwise_twins_follow_the_frame() -> None:
    x, y = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4, 8)
    frame, scale = torch.randn(2, 3, 1, 8), torch.randn(2, 3, 1, 8)
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(modulate(x, frame, scale), normed * (1 + scale) + frame, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gate_add(x, y, frame), x + frame * y)
    torch.testing.assert_close(action_fuse(x, frame), F.gelu(x + frame, approximate="tanh"))


def test_twins_carry_gradients() -> None:
    inputs = [torch.randn(1, 2, 3, 16, requires_grad=True) for _ in range(3)]
    weight = torch.ones(16, requires_grad=True)
    angle = torch.randn(1, 2, 1, 1, 8)
    cache = [torch.zeros(1, 4, 3, 1, 16) for _ in "kv"]
    out = pixel_attention(*inputs, weight, weight, (angle.cos(), angle.sin()), *cache, 2)
    out.square().sum().backward()
    for tensor in (*inputs, weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_shapes_that_do_not_fit_are_named() -> None:
    x, cache = torch.zeros(1, 2, 3, 16), torch.zeros(1, 4, 3, 2, 8)
    assert chunk_shape(x, cache, 4).width == 16
    with pytest.raises(ValueError, match=r"\(1, 2, 5, 16\).*\(1, 4, 3, 2, 8\)"):
        chunk_shape(torch.zeros(1, 2, 5, 16), cache)
    with pytest.raises(ValueError, match="chunk of 6 latents"):
        chunk_shape(torch.zeros(1, 6, 3, 16), cache)
    with pytest.raises(ValueError, match="valid is 1"):
        chunk_shape(x, cache, 1)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 16\)"):
        frame_rows(x, x)
