"""UMT5 text encoder: token ids to the context the DiT's cross-attention reads. Source: SPEC.md section 4.

Parameter names are those of the released `models_t5_umt5-xxl-enc-bf16.pth`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.records import require_positive


@dataclass(frozen=True)
class TextEncoderConfig:
    """UMT5 encoder; the defaults are umt5-xxl's (5.7 billion parameters)."""

    vocab: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    heads: int = 64
    layers: int = 24
    buckets: int = 32
    eps: float = 1e-6

    def __post_init__(self) -> None:
        require_positive(self, "vocab", "dim", "dim_attn", "dim_ffn", "heads", "layers", "buckets")
        if self.dim_attn % self.heads:
            raise ScopeError(
                f"text encoder config: dim_attn {self.dim_attn} does not split into {self.heads} heads; change either."
            )

    @classmethod
    def from_reference(cls, values: Mapping[str, Any]) -> TextEncoderConfig:
        """From the reference's own constructor arguments, as stored beside its golden vectors."""
        return cls(
            vocab=values["vocab"],
            dim=values["dim"],
            dim_attn=values["dim_attn"],
            dim_ffn=values["dim_ffn"],
            heads=values["num_heads"],
            layers=values["num_layers"],
            buckets=values["num_buckets"],
        )


UMT5_XXL = TextEncoderConfig()


def relative_buckets(distance: Tensor, buckets: int) -> Tensor:
    """Bucket of each key-minus-query distance: one half of the buckets for keys ahead, one for the rest.

    Within a half, distances below a quarter of all buckets have one each; larger ones share them logarithmically, and
    from 128 on all fall into the last.
    """
    half, exact = buckets // 2, buckets // 4
    size = distance.abs()
    # The float32 logarithm decides which side of a bucket's edge a distance falls on.
    scale = torch.log(size.clamp(min=1).float() / exact) / math.log(128 / exact)
    far = exact + (scale * (half - exact)).long()
    return (distance > 0) * half + torch.where(size < exact, size, far.clamp(max=half - 1))


class T5Norm(nn.Module):
    """RMS norm in float32, cast to the weight's dtype before the gain."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        scaled = x * torch.rsqrt(x.float().square().mean(dim=-1, keepdim=True) + self.eps)
        return scaled.to(self.weight.dtype) * self.weight


class T5Attention(nn.Module):
    """Multi-head attention with an additive bias, without scaling and without projection biases."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.k = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.v = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b l (heads d) -> b heads l d", heads=self.heads)
            for project in (self.q, self.k, self.v)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(rearrange(out, "b heads l d -> b l (heads d)"))


class T5FeedForward(nn.Module):
    """Linear gated by a tanh-GELU of another, then projected back."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(config.dim, config.dim_ffn, bias=False), nn.GELU(approximate="tanh"))
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * self.gate(x))


class RelativePositions(nn.Module):
    """One learned bias per head and distance bucket."""

    def __init__(self, buckets: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets, heads)

    def forward(self, buckets: Tensor) -> Tensor:
        """(query, key) bucket numbers -> (1, heads, query, key) biases."""
        return rearrange(self.embedding(buckets), "query key heads -> 1 heads query key")


class T5Block(nn.Module):
    """Pre-norm attention and feed-forward; unlike in T5, every block has its own position biases."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.norm1 = T5Norm(config.dim, config.eps)
        self.attn = T5Attention(config)
        self.norm2 = T5Norm(config.dim, config.eps)
        self.ffn = T5FeedForward(config)
        self.pos_embedding = RelativePositions(config.buckets, config.heads)

    def forward(self, x: Tensor, buckets: Tensor, padding: Tensor) -> Tensor:
        bias = self.pos_embedding(buckets)
        bias = bias.masked_fill(padding[:, None, None, :], torch.finfo(bias.dtype).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    """UMT5 encoder. `forward` is the bare network; `encode` is what the DiT is given."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(T5Block(config) for _ in range(config.layers))
        self.norm = T5Norm(config.dim, config.eps)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode every position.

        Args:
            ids: (B, L) token numbers.
            mask: (B, L), nonzero where `ids` is text and zero where it is padding.

        Returns:
            (B, L, dim). Padding is not seen by other positions, but is encoded too.
        """
        positions = torch.arange(ids.shape[1], device=ids.device)
        buckets = relative_buckets(positions[None, :] - positions[:, None], self.config.buckets)
        x = self.token_embedding(ids).to(self.norm.weight.dtype)  # the table may be kept smaller than the rest
        for block in self.blocks:
            x = block(x, buckets, padding=mask == 0)
        return self.norm(x)

    @torch.no_grad()
    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The context of tokenised prompts: `forward`, with every row set to zero from its own length on.

        Only the positions up to the longest prompt are computed; the rest would be zeroed anyway. The reference zeroes
        a batch from its shortest prompt on, which at batch 1 is the same.

        Args:
            ids: (B, L) token numbers, padded at the end.
            mask: (B, L), one where `ids` is text and zero where it is padding.

        Returns:
            (B, L, dim).
        """
        lengths = mask.ne(0).sum(dim=1)
        longest = int(lengths.max())
        context = zero_padding(self(ids[:, :longest], mask[:, :longest]), lengths)
        return F.pad(context, (0, 0, 0, ids.shape[1] - longest))


def zero_padding(encoded: Tensor, lengths: Tensor) -> Tensor:
    """(B, L, dim) with row b set to zero from position `lengths[b]` on."""
    positions = torch.arange(encoded.shape[1], device=encoded.device)
    return encoded.masked_fill((positions >= lengths[:, None])[..., None], 0)
