"""Scalar columns of a growing segment: an immutable list of chunks that stays short.

Arriving batches are copied, so that the log's buffer (with its vectors, which have blocks of their
own) is not kept alive, and merged with their neighbours when these are small: n rows make
O(log n) chunks plus n / LARGEST_CHUNK_ROWS, however they arrive.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from elanus.engine.index.dense.neighbours import Ints
from elanus.engine.segment.texts import SegmentTexts

LARGEST_CHUNK_ROWS = 65_536
LARGEST_CHUNK_BYTES = 64 << 20
MERGE_RATIO = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows ``first_row …`` of the segment without their vectors."""

    first_row: int
    rows: pa.RecordBatch
    size_bytes: int
    texts: SegmentTexts = field(default_factory=SegmentTexts)


Chunks = tuple[Chunk, ...]


def with_batch(chunks: Chunks, batch: pa.RecordBatch) -> Chunks:
    """The chunks and, behind them, a copy of the batch (which has no vector columns)."""
    first_row = row_count(chunks)
    merged = [batch]
    rows, size = batch.num_rows, batch.nbytes
    kept = len(chunks)
    while kept:
        last = chunks[kept - 1]
        fits = (
            last.rows.num_rows < MERGE_RATIO * rows
            and last.rows.num_rows + rows <= LARGEST_CHUNK_ROWS
            and last.size_bytes + size <= LARGEST_CHUNK_BYTES
            and last.rows.schema.equals(batch.schema)
        )
        if not fits:
            break
        merged.insert(0, last.rows)
        rows, size, first_row = rows + last.rows.num_rows, size + last.size_bytes, last.first_row
        kept -= 1
    if len(merged) == 1:
        # Concatenating with nothing copies; a single array would be passed through.
        merged.append(batch.slice(0, 0))
    columns = [
        pa.concat_arrays([part.column(i) for part in merged]) for i in range(batch.num_columns)
    ]
    copied = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
    return (*chunks[:kept], Chunk(first_row, copied, size))


def row_count(chunks: Chunks) -> int:
    return chunks[-1].first_row + chunks[-1].rows.num_rows if chunks else 0


def take(chunks: Chunks, name: str, offsets: Ints, missing: Callable[[int], pa.Array]) -> pa.Array:
    """The column's values at ``offsets``; ``missing(n)`` gives n values for chunks that were
    written without the column."""
    if not len(offsets):
        return missing(0)

    def values(chunk: Chunk, within: Ints) -> pa.Array:
        at = chunk.rows.schema.get_field_index(name)
        return missing(len(within)) if at < 0 else chunk.rows.column(at).take(pa.array(within))

    firsts = np.fromiter((chunk.first_row for chunk in chunks), np.int64, len(chunks))
    owners = np.searchsorted(firsts, offsets, "right") - 1
    if (owners == owners[0]).all():
        return values(chunks[owners[0]], offsets - firsts[owners[0]])
    order = np.argsort(owners, kind="stable")
    parts = []
    for owner in np.unique(owners):
        mine = order[owners[order] == owner]
        parts.append(values(chunks[owner], offsets[mine] - firsts[owner]))
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return pa.concat_arrays(parts).take(pa.array(inverse))
