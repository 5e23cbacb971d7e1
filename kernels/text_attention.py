"""A prompt's zero padding as few weighted keys.

The text encoder's output is zeroed past the prompt, yet SCOPE attends to all 512 positions (SPEC.md section 3): the
padded ones share one embedding, one key k and one value v. Softmax over n equal scores s is softmax over a single
score s + log n, so all of them fold into one position with a bias, exactly. Attention wants that bias in the type of
its queries, and bfloat16 holds log 400 only to 1.5 %: there the padding is two or three equal keys whose weights, each
the exponential of a number that the type holds, add up to n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BUCKETS = (64, 128, 256, 512)
"""Lengths that prompts are brought to, so that one CUDA graph serves nearly all of them."""
REMAINDER = 1e-5
"""The share of the padding's weight that may be left out."""


def padding_biases(count: int, dtype: torch.dtype) -> list[float]:
    """Numbers that `dtype` holds and whose exponentials add up to `count`, to within `REMAINDER`; as few as will do."""
    biases: list[float] = []
    rest = float(count)
    while rest > REMAINDER * count and len(biases) < count:
        bias = torch.tensor(math.log(rest)).to(dtype)
        if math.exp(bias) > rest * (1 + REMAINDER):
            bias = torch.nextafter(bias, torch.tensor(-math.inf, dtype=dtype))
        biases.append(float(bias))
        rest -= math.exp(bias)
    return biases


def collapse_padding(context: Tensor, lengths: Sequence[int], keys: int | None = None) -> tuple[Tensor, Tensor]:
    """(B, L, W) text embeddings, zero from lengths[b] on -> (B, K, W) and bias (B, K) for the scores, in their dtype.

    The positions of the result from lengths[b] on stand for all padding; those that are not needed carry -inf. K is
    what the longest prompt needs, or `keys`, to keep shapes the same from prompt to prompt (CUDA graphs). Everything
    that acts on positions one by one (text embedding, key and value projections) may run on the short context. Raises
    ValueError when a length or `keys` does not fit.
    """
    batch, total, _ = context.shape
    if len(lengths) != batch or not all(0 <= length <= total for length in lengths):
        raise ValueError(f"lengths {list(lengths)} do not belong to a context of shape {tuple(context.shape)}")
    paddings = [padding_biases(total - length, context.dtype) for length in lengths]
    needed = max(length + len(padding) for length, padding in zip(lengths, paddings, strict=True))
    keys = needed if keys is None else keys
    if not needed <= keys <= total:
        raise ValueError(f"keys is {keys}, but must lie between {needed} and {total}")
    bias = torch.full((batch, keys), -math.inf, dtype=context.dtype)
    for row, length, padding in zip(bias, lengths, paddings, strict=True):
        row[:length] = 0.0
        row[length : length + len(padding)] = torch.tensor(padding, dtype=context.dtype)
    return context[:, :keys], bias.to(context.device)


def shorten(context: Tensor) -> tuple[Tensor, Tensor | None]:
    """As `collapse_padding`, with the lengths read off the zeros, and the least of `BUCKETS` that holds the result.

    A context that no bucket makes shorter comes back as it is, without a bias. Reads the context on the host.
    """
    total = context.shape[1]
    positions = torch.arange(1, total + 1)
    lengths = [int((positions * row).max()) for row in context.ne(0).any(-1).cpu()]
    needed = max(length + len(padding_biases(total - length, context.dtype)) for length in lengths)
    keys = next((bucket for bucket in BUCKETS if needed <= bucket < total), None)
    return (context, None) if keys is None else collapse_padding(context, lengths, keys)
