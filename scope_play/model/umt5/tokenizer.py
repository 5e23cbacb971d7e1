"""From what a player types to token ids: cleaning and tokenising. Source: SPEC.md section 4."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scope_play.errors import ScopeError

TOKENS = 512
"""Every prompt is padded or cut to this many tokens."""


class Tokens(NamedTuple):
    """Tokenised prompts: `ids` and `mask` (1 for text, 0 for padding), both int64 (B, 512)."""

    ids: Tensor
    mask: Tensor


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
    """Cleans prompts and tokenises them with a Hugging Face tokenizer, special tokens included."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        encoded = self._tokenizer(
            [clean_prompt(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=TOKENS,
            add_special_tokens=True,
            return_attention_mask=True,
        )
        return Tokens(torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"]))
