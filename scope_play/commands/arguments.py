"""Types of options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.files import place


def as_path(text: str) -> Path:
    """A path, made absolute once and for all."""
    try:
        return place(text)
    except ScopeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
