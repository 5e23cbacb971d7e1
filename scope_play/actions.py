"""The 10-DoF action row: six buttons and two sticks, one row per video frame.

In memory a clip's actions are one float32 array `(rows, 10)`: six button columns in {0, 1} in the order of
`BUTTONS`, then left x, left y, right x, right y in [-1, 1]. Right and down are positive, so forward is negative
left y (SPEC.md section 2). On disk they are a parquet file with one column per button and one column of [x, y]
pairs per stick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scope_play.errors import ScopeError
from scope_play.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

BUTTONS: tuple[str, ...] = ("right_trigger", "left_trigger", "south", "right_thumb", "west", "north")
STICKS: tuple[str, ...] = ("j_left", "j_right")
AXES: tuple[str, ...] = ("left_x", "left_y", "right_x", "right_y")
COLUMNS: tuple[str, ...] = BUTTONS + AXES
ROW_WIDTH = len(COLUMNS)

FPS = 20
FRAMES_PER_LATENT = 4
WINDOWS = 4
WINDOW_ROWS = FRAMES_PER_LATENT * WINDOWS

MAX_ROWS = 24 * 3600 * FPS
"""A day of play; a longer file is taken for a mistake."""


def fit_rows(rows: np.ndarray, frames: int) -> np.ndarray:
    """`rows` cut, or continued by repeating its last row, to one row per frame: `(frames, 10)`."""
    if len(rows) == 0 or frames < 1:
        raise ScopeError(
            f"Actions need at least one row and one frame, but there are {len(rows)} rows and {frames} frames."
        )
    return rows[np.minimum(np.arange(frames), len(rows) - 1)]


def as_model_actions(
    rows: np.ndarray, *, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows `(N, 10)` as the networks take them: buttons `(1, N, 6)` and sticks `(1, N, 4)`.

    Values are rounded to bfloat16 whatever `dtype` is, as the model was trained on such values (SPEC.md section 2).
    """
    import torch

    values = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(torch.bfloat16)
    values = values.to(device=device, dtype=dtype)[None]
    return values[..., : len(BUTTONS)], values[..., len(BUTTONS) :]


def check_rows(rows: np.ndarray, source: str) -> None:
    """Raises a ScopeError naming `source`, the row and the column unless `rows` is a valid `(N, 10)` array."""
    if rows.ndim != 2 or rows.shape[1] != ROW_WIDTH or len(rows) == 0:
        raise ScopeError(f"{source} has shape {rows.shape}; actions are at least one row of {ROW_WIDTH} values.")
    for column, name in enumerate(COLUMNS):
        values = rows[:, column]
        is_button = name in BUTTONS
        valid = ((values == 0) | (values == 1)) if is_button else (np.abs(values) <= 1)  # NaN fails both
        if not valid.all():
            row = int(np.flatnonzero(~valid)[0])
            allowed = "a button must be 0 or 1" if is_button else "a stick must be a number from -1 to 1"
            raise ScopeError(f"{source} has {values[row]:g} in row {row} (from 0) of {name}; {allowed}.")


def read_actions(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an action file: float32 `(rows, 10)`.

    Columns are found by name in any order; others are ignored. Buttons may be stored as float, int or bool, sticks as
    lists of two numbers. Nothing is scaled or clipped.

    Raises:
        ScopeError: the file is missing, not parquet, damaged, empty or far too long; a column is missing, doubled, of
            the wrong type or has gaps; a stick is not a pair; a value is not finite or out of its range.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise ScopeError(f"There is no action file {path}; give the path of a parquet file.")
    try:
        with pq.ParquetFile(path) as file:
            _check_layout(path, file)
            table = file.read(columns=[*BUTTONS, *STICKS])
    except ScopeError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:  # ValueError: a column's name that is no text
        raise ScopeError(
            f"{path} is not a readable parquet file ({_first_line(error)}); write it again with scope-play or pyarrow."
        ) from error
    columns = [_numbers(path, name, table.column(name)) for name in BUTTONS]
    columns += [axis for name in STICKS for axis in _pairs(path, name, table.column(name)).T]
    rows = np.stack(columns, axis=1)
    check_rows(rows, str(path))
    with np.errstate(under="ignore"):
        return rows.astype(np.float32)


def write_actions(
    path: str | os.PathLike[str],
    rows: np.ndarray,
    extra: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    *,
    sync: bool = True,
) -> None:
    """Writes rows `(N, 10)` in the layout of the published action files, with `extra` columns of N values after them.

    A two-dimensional numpy array becomes a column of fixed-size lists. An existing file is replaced only once the new
    one is complete, and, with `sync`, on the disk.

    Raises:
        ScopeError: a row is out of range, an extra column has another length or an action column's name, or the file
            cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.asarray(rows, dtype=np.float32)
    check_rows(rows, "The action array")
    columns: dict[str, pa.Array] = {name: pa.array(rows[:, i].astype(np.float64)) for i, name in enumerate(BUTTONS)}
    for i, name in enumerate(STICKS):
        pairs = rows[:, len(BUTTONS) + 2 * i : len(BUTTONS) + 2 * i + 2]
        columns[name] = pa.array(list(pairs), type=pa.list_(pa.float32()))
    for name, values in (extra or {}).items():
        if name in columns:
            raise ScopeError(f"The extra column {name} has the name of an action column; rename it.")
        if len(values) != len(rows):
            raise ScopeError(f"The extra column {name} has {len(values)} values for {len(rows)} rows; give one a row.")
        columns[name] = _extra_column(values)
    with replacing(path, sync=sync) as beside:
        pq.write_table(pa.table(columns), beside)


def _extra_column(values: Sequence[Any] | np.ndarray) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values)


def _check_layout(path: Path, file: Any) -> None:
    """Checks everything the file's footer tells, so that a hostile file is refused before its data are expanded."""
    count = file.metadata.num_rows
    if count == 0:
        raise ScopeError(f"{path} has no rows; an action file needs at least one.")
    if count > MAX_ROWS:
        raise ScopeError(f"{path} has {count} rows, more than a day at {FPS} a second ({MAX_ROWS}); cut it into clips.")
    names = file.schema_arrow.names
    for name in (*BUTTONS, *STICKS):
        found = names.count(name)
        if found != 1:
            problem = "has no column" if found == 0 else f"has {found} columns named"
            raise ScopeError(
                f"{path} {problem} {name}; an action file has one each of {', '.join((*BUTTONS, *STICKS))}."
            )
        _check_type(path, name, file.schema_arrow.field(name).type)
    for stick in STICKS:
        stored = _stored_values(file.metadata, stick)
        if stored > 2 * count:
            raise ScopeError(f"{path} has {stored} numbers in {count} rows of {stick}; a row is a pair [x, y].")


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    import pyarrow as pa

    if name in STICKS:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise ScopeError(f"{path} has {kind} in column {name}; a row is a pair [x, y].")
        element, wanted = kind.value_type, "pairs of numbers"
    else:
        element, wanted = kind, "numbers or booleans"
    numeric = pa.types.is_floating(element) or pa.types.is_integer(element)
    if not (numeric or (name in BUTTONS and pa.types.is_boolean(element))):
        raise ScopeError(f"{path} has {kind} in column {name}; store {wanted} there.")


def _stored_values(metadata: Any, column: str) -> int:
    total = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema.split(".")[0] == column:
                total += chunk.num_values
    return total


def _numbers(path: Path, name: str, values: pa.ChunkedArray) -> np.ndarray:
    if values.null_count:
        raise ScopeError(f"{path} has {values.null_count} empty places in column {name}; fill in every row.")
    return values.to_numpy().astype(np.float64)


def _pairs(path: Path, name: str, values: pa.ChunkedArray) -> np.ndarray:
    import pyarrow.compute as pc

    lengths = pc.list_value_length(values).to_numpy()
    if values.null_count or not (lengths == 2).all():
        row = int(np.flatnonzero(lengths != 2)[0])
        raise ScopeError(f"{path} has {values[row].as_py()} in row {row} (from 0) of {name}; a row is a pair [x, y].")
    return _numbers(path, name, pc.list_flatten(values)).reshape(-1, 2)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
