"""Our networks against transformers' and diffusers' at small widths; at the real ones: `scope-play verify --cross`."""

from __future__ import annotations

import sys

import pytest
import torch

from scope_play.cli import main
from scope_play.model.dit.block import Head
from scope_play.verify.cross import WIDTHS, cross_checks


def test_every_part_agrees_with_its_independent_twin() -> None:
    checks = {(check.case, check.quantity): check for check in cross_checks(WIDTHS["small"])}
    assert set(checks) == {
        ("cross text", "encoded"),
        ("cross vae", "latents"),
        ("cross vae", "video"),
        ("cross dit", "velocity"),
    }
    assert all(check.passed for check in checks.values()), checks


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = Head.forward
    monkeypatch.setattr(Head, "forward", lambda self, x, time: real(self, x, 1.001 * time))
    assert main(["verify", "--cross", "small", "--failures"]) == 1
    out = capsys.readouterr().out
    assert "cross dit" in out
    assert "cross vae" not in out


def test_a_library_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with torch.random.fork_rng():
        assert main(["verify", "--cross", "small"]) == 2
    assert "needs the package transformers; run: pip install 'scope-play[cross]'" in capsys.readouterr().err
