"""Free memory within control groups, of which a folder is laid out as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scope_play.loading.free_memory import GIB, group_rooms, host_free


def lay_out(folder: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content}\n")


def rooms(folder: Path, membership: str) -> list[int]:
    (folder / "membership").write_text(membership)
    return list(group_rooms(folder, folder / "membership"))


FULL_OF_FILES = f"anon 1000\ninactive_file {3 * GIB}\nactive_file 5000"


def test_a_group_of_4_gb_full_of_page_cache_is_not_full(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {"memory.max": 4 * GIB, "memory.current": 4 * GIB - 4096, "memory.stat": FULL_OF_FILES},
    )
    assert rooms(tmp_path, "0::/\n") == [3 * GIB + 4096]
    assert rooms(tmp_path, "0::/docker/of-the-host\n") == [3 * GIB + 4096]


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a/memory.max": 8 * GIB, "a/memory.current": GIB, "a/b/memory.max": "max"})
    lay_out(tmp_path, {"a/b/c/memory.max": 2 * GIB, "a/b/c/memory.current": GIB, "a/b/memory.current": GIB})
    assert rooms(tmp_path, "0::/a/b/c\n") == [GIB, 7 * GIB]


def test_version_1(tmp_path: Path) -> None:
    lay_out(
        tmp_path / "memory" / "box",
        {
            "memory.limit_in_bytes": 4 * GIB,
            "memory.usage_in_bytes": 4 * GIB,
            "memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}",
        },
    )
    assert rooms(tmp_path, "3:cpu,cpuacct:/box\n9:memory:/box\n") == [GIB]


@pytest.mark.parametrize("membership", ["", "0::/gone", "nonsense"])
def test_without_limits_there_is_no_room_to_count(membership: str, tmp_path: Path) -> None:
    assert rooms(tmp_path, membership) == []
    assert list(group_rooms(tmp_path / "none", tmp_path / "none")) == []
    assert 0 < host_free() < 2**50
