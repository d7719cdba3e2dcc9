"""Parquet files, by the package pyarrow: imported where one is read and nowhere else."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError

_EXACT = 2**53
"""Whole numbers up to here are exact in float64; longer ones, such as serial numbers, stay text."""


def headers(path: Path) -> tuple[str, ...]:
    """The names of the columns; raises DataError where the file is damaged, or pyarrow is not installed."""
    return tuple(_open(path).schema_arrow.names)


def chunks(
    path: Path, columns: Sequence[str], size: int
) -> Iterator[tuple[NDArray[np.int64], list[Sequence[str] | NDArray[np.float64]]]]:
    """The rows, `size` at a time: their numbers from 1 on, and the cells of each of `columns`."""
    from pyarrow import ArrowException

    row = 1
    try:
        for batch in _open(path).iter_batches(batch_size=size, columns=list(dict.fromkeys(columns))):
            cells = [_cells(batch.column(name), name, path) for name in columns]
            yield np.arange(row, row + batch.num_rows, dtype=np.int64), cells
            row += batch.num_rows
    except (ArrowException, OSError) as error:
        raise DataError(f"is damaged: {error}", where=f"{path}: row {row}", remedy="copy or write it again") from None


def texts(path: Path, size: int) -> list[str]:
    """The cells of all columns of text in the first `size` rows, in which numbers may be written."""
    from pyarrow import ArrowException, types

    file = _open(path)
    named = [
        field.name
        for field in file.schema_arrow
        if types.is_string(kind := field.type.value_type if types.is_dictionary(field.type) else field.type)
        or types.is_large_string(kind)
    ]
    try:
        batch = next(file.iter_batches(batch_size=size, columns=named), None) if named else None
    except (ArrowException, OSError) as error:
        raise DataError(f"is damaged: {error}", where=str(path), remedy="copy or write it again") from None
    found = [] if batch is None else [cell for column in batch.columns for cell in column.to_pylist()]
    return [cell for cell in found if cell is not None]


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        remedy = "pip install driftloop[data], or write it as CSV"
        raise DataError("is Parquet, which needs the package pyarrow", where=str(path), remedy=remedy) from None
    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"is damaged: {error}", where=str(path), remedy="copy or write it again") from None


def _cells(column: Any, name: str, path: Path) -> Sequence[str] | NDArray[np.float64]:
    """Numbers and times as float64, all else as text."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_timestamp(kind) or types.is_date(kind):
        column = column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return _floats(column) / 1e6
    if types.is_duration(kind):
        return _floats(column.cast(pa.duration("us"), safe=False).cast(pa.int64())) / 1e6
    if types.is_integer(kind):
        found = _floats(column)
        if not (np.abs(found) >= _EXACT).any():
            return found
    elif types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return _floats(column)
    elif not (types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)):
        remedy = "write numbers, text or times into it, or leave it out"
        raise DataError(f"the column {name!r} holds {kind}", where=str(path), remedy=remedy)
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _floats(column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
