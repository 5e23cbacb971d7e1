"""Reading weight files: damaged and hostile ones are refused with a sentence that names them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.weights import sources
from scope_play.weights.sources import PickleSource, SafetensorsSource, Source, StoredTensor

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}


def pickled(path: Path, content: Any = STATE, **options: Any) -> PickleSource:
    torch.save(content, path, **options)
    return PickleSource(path)


def safe(path: Path) -> SafetensorsSource:
    save_file(STATE, path)
    return SafetensorsSource(path, [path])


@pytest.fixture(params=["safetensors", "zip", "legacy", "wrapped"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    make: dict[str, Callable[[], Source]] = {
        "safetensors": lambda: safe(tmp_path / "x.safetensors"),
        "zip": lambda: pickled(tmp_path / "x.pth"),
        "legacy": lambda: pickled(tmp_path / "x.pth", _use_new_zipfile_serialization=False),
        "wrapped": lambda: pickled(tmp_path / "x.pth", {"model_state": STATE}),
    }
    return make[request.param]()


def read_all(source: Source) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in source.read()}


def test_headers_and_tensors(source: Source) -> None:
    assert dict(source.tensors) == {
        "a.weight": StoredTensor((2, 3), torch.float32),
        "a.bias": StoredTensor((2,), torch.bfloat16),
        "n": StoredTensor((), None),
    }
    got = read_all(source)
    assert got.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(got[name], tensor)


def test_small_windows_read_the_same(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WINDOW_BYTES", 10)
    assert {name: tensor.tolist() for name, tensor in read_all(source).items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def test_large_tensors_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WINDOW_BYTES", 64)
    state = {name: torch.ones(size) for name, size in {"a": 10, "b": 20, "c": 30, "d": 4}.items()}
    save_file(state, tmp_path / "x.safetensors")
    for source in (SafetensorsSource(tmp_path, [tmp_path / "x.safetensors"]), pickled(tmp_path / "x.pth", state)):
        assert [name for name, _ in source.read()] == ["c", "b", "a", "d"]


def test_one_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for file in files:
        save_file({"twice": torch.ones(1)}, file)
    with pytest.raises(ScopeError, match=r"2\.safetensors: tensor 'twice' is also in another shard"):
        _ = SafetensorsSource(tmp_path, files).tensors


def refuse(source: Source) -> None:
    with pytest.raises(ScopeError) as refusal:
        read_all(source)
    assert str(source.path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def header_of(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        header_of({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        header_of({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}) + bytes(8),
        header_of({"w": {"dtype": "F32", "shape": [2], "data_offsets": [-4, 4]}}) + bytes(8),
        header_of({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}) + bytes(8),
        header_of(
            {
                "v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            }
        )
        + bytes(12),
        header_of({"w": {"dtype": "CODE", "shape": [2], "data_offsets": [0, 8]}}) + bytes(8),
        b"<html>404 Not Found</html>",
    ],
)
def test_bad_safetensors_headers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    refuse(SafetensorsSource(path, [path]))


class RunsCode:
    """Pickles into a call of os.system that would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("new", [True, False])
def test_pickles_with_code_do_not_run(new: bool, tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    content = {"w": torch.ones(2), "x": RunsCode(trace)}
    refuse(pickled(tmp_path / "bad.pth", content, _use_new_zipfile_serialization=new))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(RunsCode(trace)))
    refuse(PickleSource(tmp_path / "plain.pth"))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], {"w": 3}, {"w": {"v": torch.ones(1)}}, {3: torch.ones(1)}, {"w": torch.ones(2).to_sparse()}, "w"],
)
def test_pickles_of_other_things(content: Any, tmp_path: Path) -> None:
    refuse(pickled(tmp_path / "bad.pth", content))


def test_missing_files(tmp_path: Path) -> None:
    refuse(PickleSource(tmp_path / "none.pth"))
    refuse(SafetensorsSource(tmp_path / "none.safetensors", [tmp_path / "none.safetensors"]))


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_truncation_or_flipped_byte_is_refused_or_read(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "safetensors":
        safe(path)
    else:
        pickled(path, _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="at")] = data.draw(st.integers(0, 255), label="byte")
    path.write_bytes(content)
    source: Source = SafetensorsSource(path, [path]) if kind == "safetensors" else PickleSource(path)
    try:
        read_all(source)
    except ScopeError as refusal:
        assert str(path) in str(refusal)  # noqa: PT017 - reading a harmless change is fine too
