"""Action files, rows and windows against SPEC.md section 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play import actions
from scope_play.actions import BUTTONS, STICKS, fit_rows, read_actions, write_actions
from scope_play.errors import ScopeError
from tests.helpers.golden import golden_json, golden_root, golden_tensors


def table(rows: int = 3, **changes: object) -> dict[str, object]:
    columns: dict[str, object] = {name: [0.0] * rows for name in BUTTONS}
    columns |= {name: [[0.0, -0.5]] * rows for name in STICKS}
    columns |= changes
    return {name: values for name, values in columns.items() if values is not None}


def save(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


unit = st.floats(-1, 1, width=32)
row = st.tuples(*[st.sampled_from([0.0, 1.0])] * 6, *[unit] * 4)


@settings(max_examples=25, deadline=None)
@given(st.lists(row, min_size=1, max_size=40))
def test_what_is_written_is_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    rows = np.array(values, dtype=np.float32)
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    write_actions(path, rows, {"frame": list(range(len(rows))), "pad": np.zeros((len(rows), 3), dtype=np.int16)})
    np.testing.assert_array_equal(read_actions(path), rows)
    stored = pq.read_table(path)
    assert stored.schema.field("pad").type == pa.list_(pa.int16(), 3)
    assert stored.column("frame").to_pylist() == list(range(len(rows)))
    assert [p.name for p in path.parent.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    "stick", [pa.list_(pa.float32(), 2), pa.list_(pa.float16()), pa.large_list(pa.float64()), pa.list_(pa.int8())]
)
@pytest.mark.parametrize("button", [pa.bool_(), pa.uint8(), pa.float32()])
def test_every_sensible_storage_type_is_read(tmp_path: Path, stick: pa.DataType, button: pa.DataType) -> None:
    columns: dict[str, object] = {name: pa.array([1, 0]).cast(button) for name in reversed(BUTTONS)}
    columns |= {name: pa.array([[0, -1], [1, 0]], type=stick) for name in STICKS}
    columns["extra"] = pa.array([[1, 2, 3]] * 2, type=pa.list_(pa.int64(), 3))
    rows = read_actions(save(tmp_path / "a.parquet", columns))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[1] * 6 + [0, -1, 0, -1], [0] * 6 + [1, 0, 1, 0]])


def test_rows_in_several_row_groups_are_read_in_order(tmp_path: Path) -> None:
    rows = np.zeros((50, 10), dtype=np.float32)
    rows[:, 6] = np.linspace(-1, 1, 50)
    write_actions(tmp_path / "a.parquet", rows)
    pq.write_table(pq.read_table(tmp_path / "a.parquet"), tmp_path / "b.parquet", row_group_size=7)
    np.testing.assert_array_equal(read_actions(tmp_path / "b.parquet"), rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"south": None}, "no column south"),
        ({"j_left": None}, "no column j_left"),
        ({"west": ["a", "b", "c"]}, "string in column west"),
        ({"j_left": [0.1, 0.2, 0.3]}, "double in column j_left; a row is a pair"),
        ({"j_right": [["a", "b"]] * 3}, "column j_right; store pairs of numbers"),
        ({"j_left": [[0.0, 0.0], [0.1], [0.0, 0.0]]}, r"\[0.1\] in row 1 \(from 0\) of j_left"),
        ({"j_left": [[0.0, 0.0], [0.1] * 3, [0.0, 0.0]]}, "7 numbers in 3 rows of j_left"),
        ({"j_left": [[0.0] * 3, [0.0], [0.0, 0.0]]}, "row 0 .* of j_left; a row is a pair"),
        ({"j_left": [[0.0, 0.0], None, [0.0, 0.0]]}, "None in row 1"),
        ({"j_left": [[0.0, 0.0], [None, 0.0], [0.0, 0.0]]}, "1 empty places in column j_left"),
        ({"north": [0.0, None, 1.0]}, "1 empty places in column north"),
        ({"j_right": [[0.0, 0.0], [0.0, float("nan")], [0.0, 0.0]]}, "nan in row 1 .* of right_y"),
        ({"j_right": [[0.0, 0.0], [0.0, 0.0], [float("-inf"), 0.0]]}, "-inf in row 2 .* of right_x"),
        ({"j_left": [[0.0, 1.01], [0.0, 0.0], [0.0, 0.0]]}, "1.01 in row 0 .* of left_y; a stick"),
        ({"right_trigger": [0.0, 0.5, 1.0]}, "0.5 in row 1 .* of right_trigger; a button"),
        ({"south": [0, 2, 1]}, "2 in row 1 .* of south"),
        ({"south": [0.0, 1e300, 1.0]}, r"1e\+300 in row 1"),
    ],
)
def test_bad_columns_are_refused_in_one_sentence(tmp_path: Path, changes: dict, words: str) -> None:
    path = save(tmp_path / "a.parquet", table(**changes))
    with pytest.raises(ScopeError, match=words) as caught:
        read_actions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_action_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScopeError, match="no action file"):
        read_actions(tmp_path / "absent.parquet")
    with pytest.raises(ScopeError, match="no action file"):
        read_actions(tmp_path)
    (tmp_path / "text.parquet").write_text("right_trigger,left_trigger\n0,1\n")
    (tmp_path / "zero.parquet").write_bytes(b"")
    whole = save(tmp_path / "whole.parquet", table()).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "zero", "cut"):
        with pytest.raises(ScopeError, match="not a readable parquet file"):
            read_actions(tmp_path / f"{name}.parquet")
    empty = {name: pa.array([], pa.float64()) for name in BUTTONS} | {
        name: pa.array([], pa.list_(pa.float64())) for name in STICKS
    }
    with pytest.raises(ScopeError, match="no rows"):
        read_actions(save(tmp_path / "empty.parquet", empty))
    twice = pa.Table.from_arrays(
        [pa.array([0.0])] * 7 + [pa.array([[0.0, 0.0]])] * 2, names=[*BUTTONS, "south", *STICKS]
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ScopeError, match="2 columns named south"):
        read_actions(tmp_path / "twice.parquet")
    monkeypatch.setattr(actions, "MAX_ROWS", 5)
    with pytest.raises(ScopeError, match="6 rows, more than a day"):
        read_actions(save(tmp_path / "long.parquet", table(rows=6)))


def test_damaged_pages_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", table(rows=200))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    with pytest.raises(ScopeError):
        read_actions(path)


@pytest.mark.parametrize(
    ("rows", "extra", "words"),
    [
        (np.zeros((2, 9)), None, r"shape \(2, 9\)"),
        (np.zeros((0, 10)), None, r"shape \(0, 10\)"),
        (np.full((2, 10), 0.5), None, "0.5 in row 0"),
        (np.zeros((2, 10)), {"frame": [1]}, "1 values for 2 rows"),
        (np.zeros((2, 10)), {"south": [1, 1]}, "name of an action column"),
    ],
)
def test_bad_arrays_cost_no_existing_file(tmp_path: Path, rows: np.ndarray, extra: dict | None, words: str) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"precious")
    with pytest.raises(ScopeError, match=words):
        write_actions(path, rows, extra)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="is not a folder"):
        write_actions(tmp_path / "absent" / "a.parquet", np.zeros((1, 10)))


def test_fit_rows_repeats_the_last_row_or_cuts() -> None:
    rows = np.arange(30, dtype=np.float32).reshape(3, 10)
    np.testing.assert_array_equal(fit_rows(rows, 5)[:, 0], [0, 10, 20, 20, 20])
    np.testing.assert_array_equal(fit_rows(rows, 2)[:, 0], [0, 10])
    with pytest.raises(ScopeError, match="at least one row"):
        fit_rows(rows[:0], 5)


@pytest.mark.parametrize("case", golden_json("actions/load_actions.json")["cases"], ids=lambda case: case["name"])
def test_loaded_actions_are_the_references(case: dict) -> None:
    golden = golden_tensors("actions/load_actions.safetensors")
    rows = fit_rows(read_actions(golden_root() / case["parquet"]), case["num_frames"])
    buttons, sticks = actions.as_model_actions(rows, dtype=torch.bfloat16)
    assert torch.equal(buttons, golden[case["name"] + ".keyboard"])
    assert torch.equal(sticks, golden[case["name"] + ".mouse"])


def test_model_actions_are_rounded_to_bfloat16() -> None:
    rows = np.zeros((2, 10), dtype=np.float32)
    rows[1, 7] = -0.93
    buttons, sticks = actions.as_model_actions(rows, dtype=torch.float32)
    assert buttons.shape == (1, 2, 6)
    assert sticks.shape == (1, 2, 4)
    assert sticks.dtype == torch.float32
    assert sticks[0, 1, 1].item() == torch.tensor(-0.93).bfloat16().item() != np.float32(-0.93)
