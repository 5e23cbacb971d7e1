"""What the README shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    scope: dict[str, object] = {}
    exec(compile(blocks[0], str(README), "exec"), scope)
    frames = scope["frames"]
    assert isinstance(frames, list)
    assert [chunk.shape for chunk in frames] == [(4, 192, 320, 3)] * 5


def test_every_command_it_names_exists() -> None:
    from scope_play.cli import COMMANDS

    named = set(re.findall(r"scope-play ([a-z]+)", README.read_text("utf-8")))
    assert named <= set(COMMANDS)
    assert {"play", "arena", "generate", "replay", "recover", "export"} <= named | {"play"}
