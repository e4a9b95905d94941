"""Late materialisation: columns of chosen rows, gathered from several holders into one batch."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NOTHING = pa.RecordBatch.from_arrays([], schema=pa.schema([]))


def empty_rows(fields: Sequence[pa.Field]) -> pa.RecordBatch:
    """A batch without rows that has these columns."""
    if not fields:
        return _NOTHING
    return pa.RecordBatch.from_arrays(
        [pa.array([], type=field.type) for field in fields], schema=pa.schema(fields)
    )


def with_fields(columns: Sequence[pa.Array], fields: Sequence[pa.Field]) -> pa.RecordBatch:
    """The columns as a batch of exactly these fields, whose names and types they have."""
    return pa.RecordBatch.from_arrays(list(columns), schema=pa.schema(fields))


def interleave(
    parts: Sequence[tuple[npt.NDArray[np.int64], pa.RecordBatch]], fields: Sequence[str]
) -> pa.RecordBatch:
    """One batch out of parts that each say which rows of it they are.

    ``parts``: (positions, rows) with ``len(positions) == rows.num_rows``; all positions together
    are 0 … n-1, each once.
    """
    if len(parts) == 1 and _is_identity(parts[0][0]):
        return parts[0][1]
    table = pa.Table.from_batches([_as_first(rows, parts[0][1]) for _, rows in parts])
    positions = np.concatenate([positions for positions, _ in parts])
    order = np.empty(len(positions), dtype=np.int64)
    order[positions] = np.arange(len(positions), dtype=np.int64)
    columns = [table.column(name).combine_chunks().take(pa.array(order)) for name in fields]
    return pa.RecordBatch.from_arrays(columns, names=list(fields))


def by_source(
    sources: npt.NDArray[np.int64],
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(source, positions of its rows) for each source, by first id ascending."""
    if len(sources) == 0:
        return []
    first = int(sources[0])
    if bool((sources == first).all()):
        return [(first, np.arange(len(sources), dtype=np.int64))]
    order = np.argsort(sources, kind="stable").astype(np.int64, copy=False)
    ids, starts = np.unique(sources[order], return_index=True)
    return list(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))


def _is_identity(positions: npt.NDArray[np.int64]) -> bool:
    return bool((positions == np.arange(len(positions))).all())


def _as_first(rows: pa.RecordBatch, first: pa.RecordBatch) -> pa.RecordBatch:
    """The same columns under the first part's schema: parts may differ in nullability only."""
    if rows.schema.equals(first.schema):
        return rows
    return pa.RecordBatch.from_arrays(rows.columns, schema=first.schema)
