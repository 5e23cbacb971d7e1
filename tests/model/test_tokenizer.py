"""Prompt cleaning and tokenising."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_play.errors import ScopeError
from scope_play.model.umt5.tokenizer import TOKENS, PromptTokenizer, clean_prompt
from tests.helpers.golden import golden_json

CASES = golden_json("tokenizer/clean.json")["cases"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_cleaning_as_the_reference(case: dict[str, str]) -> None:
    assert clean_prompt(case["input"]) == case["whitespace"]


@given(st.text())
def test_no_whitespace_runs_remain(prompt: str) -> None:
    assert clean_prompt(prompt) == " ".join(clean_prompt(prompt).split())


def test_missing_ftfy_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ScopeError, match=r"pip install 'scope-play\[text\]'"):
        clean_prompt("hello")


class CountingTokenizer:
    """Stands in for a Hugging Face tokenizer: one token per word, 1 at the end."""

    def __call__(self, prompts: list[str], max_length: int, **_: Any) -> dict[str, list[list[int]]]:
        rows = [[*range(2, 2 + len(prompt.split())), 1][:max_length] for prompt in prompts]
        return {
            "input_ids": [row + [0] * (max_length - len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (max_length - len(row)) for row in rows],
        }


def test_tokens_are_padded_to_512() -> None:
    tokens = PromptTokenizer(CountingTokenizer())(["a  dusty\ntown", ""])
    assert tokens.ids.shape == tokens.mask.shape == (2, TOKENS)
    assert tokens.ids.dtype == tokens.mask.dtype == torch.int64
    assert tokens.ids[0, :5].tolist() == [2, 3, 4, 1, 0]
    assert tokens.mask.sum(dim=1).tolist() == [4, 1]
