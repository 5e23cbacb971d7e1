"""A prompt's zero padding as one weighted key.

The text encoder's output is zeroed past the prompt, yet SCOPE attends to all 512 positions (SPEC.md section 3): the
padded ones share one embedding, one key k and one value v. Softmax over n equal scores s is softmax over a single
score s + log n, so all of them fold into one position with a bias, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def collapse_padding(context: Tensor, lengths: Sequence[int], keys: int | None = None) -> tuple[Tensor, Tensor]:
    """(B, L, W) text embeddings, zero from lengths[b] on -> (B, K, W) and float32 bias (B, K) for the scores.

    Position lengths[b] of the result stands for all padding, with bias log(L - lengths[b]); positions beyond carry
    -inf. K is the longest prompt plus one, or `keys`, to keep shapes the same from prompt to prompt (CUDA graphs).
    Everything that acts on positions one by one (text embedding, key and value projections) may run on the short
    context. Raises ValueError when a length or `keys` does not fit.
    """
    batch, total, _ = context.shape
    if len(lengths) != batch or not all(0 <= length <= total for length in lengths):
        raise ValueError(f"lengths {list(lengths)} do not belong to a context of shape {tuple(context.shape)}")
    needed = min(total, max(lengths) + 1)
    keys = needed if keys is None else keys
    if not needed <= keys <= total:
        raise ValueError(f"keys is {keys}, but must lie between {needed} and {total}")
    bias = torch.full((batch, keys), -math.inf, dtype=torch.float32)
    for row, length in zip(bias, lengths, strict=True):
        row[:length] = 0.0
        if length < total:
            row[length] = math.log(total - length)
    return context[:, :keys], bias.to(context.device)
