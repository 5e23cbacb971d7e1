"""JSON files beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scope_play.errors import ScopeError


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ScopeError naming the file when it cannot be read or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScopeError(f"{path} cannot be read as JSON ({error}); write or download it again.") from error
    if not isinstance(content, dict):
        raise ScopeError(f"{path} holds a {type(content).__name__}, not a JSON object; write or download it again.")
    return content
