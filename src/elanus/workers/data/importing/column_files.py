"""Parquet and CSV files, and sets of NumPy files with a column each, in batches of columns."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from elanus.errors import ImportFailed
from elanus.workers.data.importing.pieces import BATCH_BYTES, Columns, rows_per_batch

_MAX_NUMPY_DIMENSIONS = 2


def read_parquet(path: Path) -> Iterator[Columns]:
    """Raises ImportFailed for a file that can't be read."""
    try:
        with pa.parquet.ParquetFile(path, memory_map=True) as file:
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            row_bytes = sum(g.total_byte_size for g in groups) / max(1, file.metadata.num_rows)
            yield from _pieces(file.iter_batches(batch_size=rows_per_batch(row_bytes)))
    except (pa.ArrowException, OSError) as error:
        raise ImportFailed(f"not a Parquet file that can be read: {error}") from error


def read_csv(path: Path, separator: str) -> Iterator[Columns]:
    """The first line names the columns. Raises ImportFailed for a file that can't be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=separator), [])
        if not names:
            return
        with pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=BATCH_BYTES),
            parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        ) as reader:
            yield from _pieces(reader, are_texts=True)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise ImportFailed(f"not a CSV file that can be read: {error}") from error


def _pieces(batches: Any, *, are_texts: bool = False) -> Iterator[Columns]:
    first_row = 0
    for batch in batches:
        names = batch.schema.names
        if len(set(names)) < len(names):
            raise ImportFailed(f"several columns have one name: {', '.join(names)}")
        if batch.num_rows:
            columns = dict(zip(names, batch.columns, strict=True))
            yield Columns(first_row, columns, batch.num_rows, are_texts)
        first_row += batch.num_rows


def read_numpy(paths: Mapping[str, Path]) -> Iterator[Columns]:
    """The files of columns by name. Raises ImportFailed."""
    arrays = {name: _mapped(name, path) for name, path in paths.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in lengths.items())
        raise ImportFailed(f"the files have different numbers of rows ({counts})")
    rows = next(iter(lengths.values()), 0)
    row_bytes = sum(array.nbytes for array in arrays.values()) / max(1, rows)
    step = rows_per_batch(row_bytes)
    for start in range(0, rows, step):
        end = min(rows, start + step)
        columns = {name: _column(array[start:end]) for name, array in arrays.items()}
        yield Columns(start, columns, end - start)


def _mapped(name: str, path: Path) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ImportFailed(
            f"the file of the field {name} is not a NumPy file of numbers or strings: {error}"
        ) from error
    if not 1 <= array.ndim <= _MAX_NUMPY_DIMENSIONS or array.dtype.kind not in "biufU":
        raise ImportFailed(
            f"the file of the field {name} has {array.ndim} dimensions of {array.dtype}, "
            "expected one (or two of vectors) of numbers or strings"
        )
    return array


def _column(values: Any) -> Any:
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if plain.ndim == 1:
        return pa.array(plain)
    return pa.FixedSizeListArray.from_arrays(pa.array(plain.reshape(-1)), plain.shape[1])
