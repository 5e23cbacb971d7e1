"""Prompt cleaning and tokenising."""

from __future__ import annotations

import sys

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


def test_tokens_are_padded_to_512() -> None:
    """One token a word."""
    tokens = PromptTokenizer(lambda text: list(range(2, 2 + len(text.split()))))(["a  dusty\ntown", ""])
    assert tokens.ids.shape == tokens.mask.shape == (2, TOKENS)
    assert tokens.ids.dtype == tokens.mask.dtype == torch.int64
    assert tokens.ids[0, :5].tolist() == [2, 3, 4, 1, 0]
    assert tokens.mask.sum(dim=1).tolist() == [4, 1] == list(tokens.lengths)
