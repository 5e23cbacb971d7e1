from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys

import pytest

from scope_play.kernels.aot import SHARED_LIMIT, Resources, cases, compile_all, table

FINE = Resources("k, scope", 90, 4, 48, 0, 8192, 19, 20)


def test_faults_are_found() -> None:
    assert FINE.faults() == []
    assert "spills 16" in dataclasses.replace(FINE, stack=16).faults()[0]
    assert "shared memory of 101376" in dataclasses.replace(FINE, capability=120, shared=200_000).faults()[0]
    assert dataclasses.replace(FINE, shared=200_000).faults() == []
    assert "no 16-byte loads" in dataclasses.replace(FINE, wide=0).faults()[0]


def test_table_has_a_column_for_each_architecture() -> None:
    lines = table([dataclasses.replace(FINE, capability=c) for c in SHARED_LIMIT]).splitlines()
    assert len(lines) == 2
    assert all(f"sm_{c}" in lines[0] for c in SHARED_LIMIT)
    assert lines[1].count("48/8.0/19of20") == len(SHARED_LIMIT)


def test_a_kernel_is_compiled_where_it_is_launched() -> None:
    pytest.importorskip("triton")
    only = {case.name: case.only for case in cases()}
    assert only["product 128x128 gelu, scope"] == tuple(SHARED_LIMIT)
    assert only["product 64x256 gelu, scope"] == (80, 90, 100)
    assert only["product 128x256 gelu, scope"] == (90,)
    assert compile_all(["product 128x256 gelu, scope"], [80, 120], 1) == []
    results = [dataclasses.replace(FINE, case="everywhere", capability=80), FINE]
    assert [line.count("48/8.0") for line in table(results).splitlines()] == [0, 1, 1]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_pixel_kernel_compiles_without_a_gpu() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        "-m",
        "scope_play.kernels.aot",
        "--sm",
        "90",
        "--only",
        "pixel_attention, scope, chunk 4",
    ]
    done = subprocess.run([*command, "--workers", "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pixel_attention, scope, chunk 4" in done.stdout
    refused = subprocess.run(command, env=environment | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "TRITON_INTERPRET" in refused.stderr
