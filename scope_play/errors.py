"""The one exception a user is meant to see: a single sentence that says what, where, and how to mend it."""

from __future__ import annotations


class ScopeError(ValueError):
    """Bad input from the user's side. `str(error)` is one sentence; the CLI prints it and exits with 2."""
