"""Types of options that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import place


def as_number(text: str) -> float:
    """A number, and not an infinite one or none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number


def as_path(text: str) -> Path:
    """A path, made absolute once and for all."""
    try:
        return place(text)
    except ScopeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
