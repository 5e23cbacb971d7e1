"""The rooms and their order: what `scope_play/README.md` draws is what the imports say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = ROOT / "scope_play" / "README.md"
LISTS = {"bench", "kernels"}
"""Rooms that are lists of like things, and may be long."""
TALL = {"scope_play.arena.render"}


def rooms_in_the_map() -> list[list[str]]:
    """The floors of the picture in the map, from the ground up; rooms on one floor import nothing of each other."""
    picture = re.search(r"```text\n(.*?)```", MAP.read_text("utf-8"), flags=re.DOTALL)
    assert picture, "the map has no picture"
    floors = [re.findall(r"\[([a-z_ ]+)\]", line) for line in picture[1].splitlines()]
    return [[room for names in floor for room in names.split()] for floor in reversed(floors) if floor]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder, base in (
        (ROOT / "scope_play", "scope_play"),
        *((ROOT / n, f"scope_play.{n}") for n in ("kernels", "weights")),
    ):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((base, *(part for part in parts if part != "__init__")))
            found[name] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of this package that `module` imports, at its top, in a function, or for its types alone."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(known[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return frozenset(name for name in found if name in known and name != module)


def room(module: str) -> str:
    """The room that a module stands in; modules at the root are rooms of their own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "scope_play"


def is_face(module: str) -> bool:
    """A package's `__init__` that only hands names on."""
    return modules()[module].name == "__init__.py"


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Names that can be reached from themselves."""
    found = []
    for start in arrows:
        seen, ahead = set(), list(arrows[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += arrows.get(name, ())
        if start in seen:
            found.append(start)
    return found


def test_the_map_names_every_room_once() -> None:
    drawn = [name for floor in rooms_in_the_map() for name in floor]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {room(name) for name in modules() if name != "scope_play" and room(name) != "assets"}


def test_arrows_run_down_only() -> None:
    height = {name: level for level, floor in enumerate(rooms_in_the_map()) for name in floor}
    wrong = [
        f"{module} -> {other}"
        for module in modules()
        for other in imports(module)
        if not is_face(module) and not is_face(other) and room(module) != room(other)
        if height[room(module)] <= height[room(other)]
    ]
    assert wrong == []


def test_no_circles() -> None:
    faces = {name for name in modules() if is_face(name)}
    assert circles({name: set(imports(name)) - faces for name in modules() if name not in faces}) == []


def test_recording_plays_nothing() -> None:
    allowed = {"recording", "session", "actions", "images", "files", "records", "errors"}
    used = {room(other) for name in modules() if room(name) == "recording" for other in imports(name)}
    assert used <= allowed | {"scope_play"}
    of_session = {other for name in modules() if room(name) == "recording" for other in imports(name)}
    assert {name for name in of_session if room(name) == "session"} <= {"scope_play.session.interfaces"}


def reached(module: str) -> set[str]:
    """Everything that is imported when `module` is, by statements at the top of modules."""
    seen, ahead = set(), [module]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.parse(modules()[name].read_text("utf-8")).body:
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            seen |= {other for other in names if other.split(".")[0] == "torch"}
            ahead += [other for other in names if other in modules()]
    return seen


@pytest.mark.parametrize(
    "module",
    [
        *("scope_play.cli", "scope_play.play.app", "scope_play.play.headless", "scope_play.play.engine.remote"),
        *("scope_play.serve.app", "scope_play.wire.world"),
    ],
)
def test_the_window_knows_no_torch(module: str) -> None:
    assert not {name for name in reached(module) if name.split(".")[0] == "torch"}


def test_the_networks_name_no_device() -> None:
    named = [
        f"{path}:{node.lineno}"
        for name, path in modules().items()
        if room(name) == "model"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Constant) and node.value in ("cpu", "cuda", "mps", "meta"))
        or (isinstance(node, ast.Attribute) and node.attr == "cuda")
    ]
    assert named == []


def test_rooms_and_files_are_small() -> None:
    files: dict[Path, int] = {}
    for name, path in modules().items():
        if not is_face(name):
            files[path.parent] = files.get(path.parent, 0) + 1
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= 350 or name in TALL, f"{name} has {lines} lines"
    crowded = {str(folder): count for folder, count in files.items() if count > 16 and folder.name not in LISTS}
    assert crowded == {}
    assert files[ROOT / "scope_play"] <= 10


def test_every_room_is_installed() -> None:
    """A folder that pyproject.toml does not list is missing from the wheel, and nobody notices in a checkout."""
    listed = set(re.findall(r'"(scope_play[a-z0-9_.]*)"', (ROOT / "pyproject.toml").read_text("utf-8")))
    assert {name for name in modules() if is_face(name)} <= listed


def test_help_waits_for_nothing_heavy() -> None:
    heavy = ("asyncio", "numpy", "rich", "torch", "pygame", "starlette")
    code = (
        "import sys\nfrom scope_play.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert asked.stderr.strip() == ""
    assert "usage: scope-play" in asked.stdout
