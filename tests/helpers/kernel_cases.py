"""Chunks, caches and rotations drawn by hypothesis, and outputs poisoned with NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@dataclass
class Draw:
    """A chunk over a partly filled cache. `k_cache[:, valid:]` holds NaN, as do the chunk's own slots."""

    batch: int
    latents: int
    tokens: int
    heads: int
    head_dim: int
    valid: int
    dtype: torch.dtype
    q: Tensor
    k: Tensor
    v: Tensor
    q_weight: Tensor
    k_weight: Tensor
    k_cache: Tensor
    v_cache: Tensor
    generator: torch.Generator

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(self.q)

    def rotation(self, tokens: int = 1) -> tuple[Tensor, Tensor]:
        shape = (1, self.latents, tokens, 1, self.head_dim // 2)
        angles = 100 * torch.randn(*shape, generator=self.generator)
        return angles.cos().to(self.q.device), angles.sin().to(self.q.device)

    def caches(self) -> tuple[Tensor, Tensor]:
        return self.k_cache.clone(), self.v_cache.clone()


@st.composite
def draws(draw: st.DrawFn, shared: bool = False) -> Draw:
    """`shared`: a cache with one key for all tokens, as the buttons have; already holding the chunk's own."""
    batch, latents, tokens = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    heads, head_dim = draw(st.integers(1, 6)), draw(st.sampled_from([16, 24, 32, 48, 64, 96, 128]))
    spare, window = draw(st.integers(0, 2)), draw(st.integers(1, 7))
    filled = draw(st.integers(0, window))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    width = heads * head_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    # Projections are slices of one fused product, caches start behind unused tail slots: neither is contiguous.
    q, k, v = normal(batch, latents, tokens, 3 * width).split(width, dim=-1)
    valid = latents + filled

    def cache() -> Tensor:
        made = normal(batch, spare + latents + window, 1 if shared else tokens, heads, head_dim)[:, spare:]
        made[:, valid:] = torch.nan
        if not shared:
            made[:, :latents] = torch.nan
        return made

    return Draw(
        batch=batch,
        latents=latents,
        tokens=tokens,
        heads=heads,
        head_dim=head_dim,
        valid=valid,
        dtype=dtype,
        q=q,
        k=k,
        v=v,
        q_weight=normal(width),
        k_weight=normal(width),
        k_cache=cache(),
        v_cache=cache(),
        generator=generator,
    )


def on(draw: Draw, device: torch.device) -> Draw:
    """The same draw with its tensors on `device`."""
    for name, value in vars(draw).items():
        if isinstance(value, Tensor):
            setattr(draw, name, value.to(device))
    return draw


@contextmanager
def poisoned_outputs() -> Iterator[None]:
    """torch.empty hands out NaN, so that an element a kernel forgets to write shows."""
    real = torch.empty

    def poisoned(*size: int, **options: object) -> Tensor:
        return real(*size, **options).fill_(torch.nan)  # type: ignore[call-overload]

    with mock.patch.object(torch, "empty", poisoned):
        yield


def assert_close(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    limit = TOLERANCE[dtype]
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, atol=limit, rtol=limit)
