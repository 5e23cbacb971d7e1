"""The one exception a user is meant to see: a single sentence that says what, where, and how to mend it."""

from __future__ import annotations


class ScopeError(ValueError):
    """Bad input from the user's side. `str(error)` is one sentence on one line, whatever a library's own words in it
    are; the CLI prints it and exits with 2."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())
