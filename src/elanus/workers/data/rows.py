"""The computation of a compaction: which rows live on, and in which order. Pure, in columns.

A row is dead at ``read_ts`` iff a delete of its primary key with insert ts < delete ts ≤
``read_ts`` is known for its partition, or it expired (insert ts ≤ ``expire_before_ts``). Rows keep
their insert timestamps, so deletes that are applied again later find the same rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.segment.hits import key_order, missing_column
from elanus.model.catalog import ALL_PARTITIONS
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.vectors import ELEMENT_DTYPES, vector_column, vector_width, vectors_of
from elanus.storage.formats.deltas import DeltaRows
from elanus.storage.formats.segment_reader import SegmentFiles

PIECE_ROWS = 16_384


def deletes_of(partition_id: int, deltas: Iterable[DeltaRows]) -> Any:
    """The deletes that concern a partition: an Arrow table of pk and ts (uint64), or None."""
    tables = []
    for rows in deltas:
        mine = np.isin(rows.partition_ids, (ALL_PARTITIONS, partition_id))
        if mine.any():
            table = pa.table({"pk": rows.keys, "ts": pa.array(rows.timestamps)})
            tables.append(table if mine.all() else table.filter(pa.array(mine)))
    return pa.concat_tables(tables) if tables else None


def last_deletes(keys: Any, deletes: Any, upto_ts: int | None = None) -> npt.NDArray[np.uint64]:
    """uint64 (rows,): the ts of the last delete (≤ ``upto_ts``) of each row's key, 0 for none.

    keys: Arrow array (rows,). deletes: as :func:`deletes_of` gives them.
    """
    found = np.zeros(len(keys), dtype=np.uint64)
    if deletes is None:
        return found
    if upto_ts is not None:
        deletes = deletes.filter(pc.less_equal(deletes["ts"], pa.scalar(upto_ts, pa.uint64())))
    if deletes.num_rows == 0:
        return found
    last = deletes.group_by("pk").aggregate([("ts", "max")])
    where = pc.index_in(keys, value_set=last["pk"].combine_chunks())
    known = where.is_valid().to_numpy(zero_copy_only=False)
    times = last["ts_max"].to_numpy()
    found[known] = times[where.drop_null().to_numpy(zero_copy_only=False)]
    return found


def living(
    files: SegmentFiles, key_field: str, deletes: Any, read_ts: int, expire_before_ts: int
) -> npt.NDArray[np.int64]:
    """int64: the offsets of the rows of a segment that are neither deleted nor expired."""
    timestamps = files.timestamps
    dead = last_deletes(files.column(key_field), deletes, read_ts) > timestamps
    if expire_before_ts > 0:
        dead |= timestamps <= np.uint64(expire_before_ts)
    return np.flatnonzero(~dead)


@dataclass(frozen=True)
class MergedRows:
    """rows: RecordBatch sorted by (pk, ts). timestamps: uint64 (rows,)."""

    rows: Any
    timestamps: npt.NDArray[np.uint64]


def merge(
    schema: CollectionSchema,
    inputs: Sequence[SegmentFiles],
    kept: Sequence[npt.NDArray[np.int64]],
) -> MergedRows:
    """The kept rows of all inputs, each column complete under the schema of now."""
    keys = pa.concat_arrays(
        [files.column(schema.primary.name).take(pa.array(k)) for files, k in _paired(inputs, kept)]
    )
    timestamps = np.concatenate([files.timestamps[k] for files, k in _paired(inputs, kept)])
    order = key_order(keys, timestamps)
    columns = [_column(schema, field, inputs, kept, order) for field in schema.fields]
    rows = pa.RecordBatch.from_arrays(columns, schema=schema.arrow)
    return MergedRows(rows, timestamps[order])


def _column(
    schema: CollectionSchema,
    field: FieldSchema,
    inputs: Sequence[SegmentFiles],
    kept: Sequence[npt.NDArray[np.int64]],
    order: npt.NDArray[np.int64],
) -> Any:
    if field.data_type in ELEMENT_DTYPES:
        return _vectors(field, inputs, kept, order)
    is_vector = field.data_type.is_vector
    parts = [
        (files.vectors if is_vector else files.column)(field.name).take(pa.array(k))
        if field.name in files.field_names
        else missing_column(schema, field.name, len(k))
        for files, k in _paired(inputs, kept)
    ]
    column = pa.chunked_array(parts, type=arrow_type(field)).take(pa.array(order))
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _vectors(
    field: FieldSchema,
    inputs: Sequence[SegmentFiles],
    kept: Sequence[npt.NDArray[np.int64]],
    order: npt.NDArray[np.int64],
) -> Any:
    """Each vector is copied once, from the mapping to its place; where there is none, are zeros."""
    width = vector_width(field.data_type, field.dim)
    merged = np.zeros((len(order), width), ELEMENT_DTYPES[field.data_type])
    valid = np.ones(len(order), np.bool_)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    start = 0
    for files, offsets in _paired(inputs, kept):
        vectors, present = _stored(files.vectors(field.name))
        for first in range(0, len(offsets), PIECE_ROWS):
            piece = offsets[first : first + PIECE_ROWS]
            places = position[start : start + len(piece)]
            if present is None:
                merged[places] = vectors[piece]
            else:
                valid[places] = present[piece]
                merged[places[present[piece]]] = vectors[piece[present[piece]]]
            start += len(piece)
    return vector_column(merged, valid if field.nullable else None)


def _stored(vectors: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """(vectors (rows, width), which rows have one; None: all)."""
    if isinstance(vectors, np.ndarray):
        return vectors, None
    present = vectors.is_valid().to_numpy(zero_copy_only=False) if vectors.null_count else None
    return vectors_of(vectors), present


def _paired(
    inputs: Sequence[SegmentFiles], kept: Sequence[npt.NDArray[np.int64]]
) -> Iterable[tuple[SegmentFiles, npt.NDArray[np.int64]]]:
    return zip(inputs, kept, strict=True)
