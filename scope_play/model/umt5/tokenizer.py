"""From what a player types to token ids: cleaning and tokenising. Source: SPEC.md section 4."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scope_play.errors import ScopeError

TOKENS = 512
"""Every prompt is padded or cut to this many tokens."""
PAD, END = 0, 1
"""Token numbers of UMT5 that fill up a prompt, and that end it."""


class Tokens(NamedTuple):
    """Tokenised prompts: `ids` and `mask` (1 for text, 0 for padding), both int64 (B, 512).

    lengths: tokens of each prompt before it was cut, its end included.
    """

    ids: Tensor
    mask: Tensor
    lengths: tuple[int, ...]


def clean_prompt(prompt: str) -> str:
    """Repair the text, resolve HTML entities (also doubly escaped ones), and make every run of whitespace one space.

    Raises:
        ScopeError: ftfy is not installed.
    """
    try:
        import ftfy
    except ImportError as error:
        raise ScopeError(
            "prompts need the package ftfy, which is not installed; run: pip install 'scope-play[text]'"
        ) from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


class PromptTokenizer:
    """Cleans prompts and tokenises them. `pieces` gives a text's token numbers, without the one that ends it."""

    def __init__(self, pieces: Callable[[str], Sequence[int]]) -> None:
        self._pieces = pieces

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        texts = [list(self._pieces(clean_prompt(prompt))) for prompt in prompts]
        ids = torch.full((len(texts), TOKENS), PAD)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            kept = [*text[: TOKENS - 1], END]
            ids[row, : len(kept)] = torch.tensor(kept)
            mask[row, : len(kept)] = 1
        return Tokens(ids, mask, tuple(len(text) + 1 for text in texts))
