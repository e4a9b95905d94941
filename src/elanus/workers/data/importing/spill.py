"""Rows on their way into segments: sorted out by shard and partition on the disk, then by key.

Memory holds ``MAX_BUFFERED_BYTES`` of rows at most, and at the end one segment after another.
A file of a shard's partition is a row of Arrow IPC streams, one for each time that memory was full.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from elanus.engine.segment.hits import key_order
from elanus.model.schema import CollectionSchema
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, vector_column, vectors_of
from elanus.workers.data.importing.request import SortedPiece

MAX_BUFFERED_BYTES = 64 << 20

Place = tuple[int, int]
"""(shard, partition id)"""


@dataclass(slots=True)
class _Run:
    """A future segment. ``offsets``: where each stream begins in its file."""

    path: Path
    offsets: list[int] = field(default_factory=list)
    size_bytes: int = 0


class Spill:
    """``add`` rows, then ``finish``. Files are in the empty directory ``out_dir``."""

    def __init__(self, schema: CollectionSchema, out_dir: Path, max_segment_bytes: int) -> None:
        self._schema = schema
        self._out_dir = out_dir
        self._max_segment_bytes = max_segment_bytes
        self._buffered: dict[Place, list[Any]] = {}
        self._buffered_bytes = 0
        self._open: dict[Place, _Run] = {}
        self._full: list[tuple[Place, _Run]] = []
        self._runs = 0

    def add(self, shard: int, partition_id: int, rows: pa.RecordBatch) -> None:
        self._buffered.setdefault((shard, partition_id), []).append(rows)
        self._buffered_bytes += rows.nbytes
        if self._buffered_bytes >= MAX_BUFFERED_BYTES:
            self._write()

    def finish(self) -> tuple[SortedPiece, ...]:
        """The sorted pieces of everything that was added."""
        self._write()
        runs = sorted([*self._full, *self._open.items()], key=lambda each: (each[0], each[1].path))
        return tuple(self._sort(place, run) for place, run in runs)

    def _write(self) -> None:
        for place, batches in self._buffered.items():
            run = self._open.get(place)
            if run is None:
                run = self._open[place] = _Run(self._out_dir / f"{self._runs}.rows")
                self._runs += 1
            with run.path.open("ab") as file:
                run.offsets.append(file.tell())
                with pa.ipc.new_stream(file, self._schema.arrow) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                run.size_bytes = file.tell()
            if run.size_bytes >= self._max_segment_bytes:
                self._full.append((place, self._open.pop(place)))
        self._buffered.clear()
        self._buffered_bytes = 0

    def _sort(self, place: Place, run: _Run) -> SortedPiece:
        with pa.memory_map(str(run.path), "r") as file:
            buffer = file.read_buffer()
        tables = []
        for offset in run.offsets:
            with pa.ipc.open_stream(buffer.slice(offset)) as stream:
                tables.append(stream.read_all())
        rows = pa.concat_tables(tables)
        keys = rows[self._schema.primary.name].combine_chunks()
        order = key_order(keys, np.zeros(len(keys), np.uint64))
        columns = [_taken(rows[each.name], each.data_type, order) for each in self._schema.fields]
        path = run.path.with_suffix(".arrow")
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema.arrow)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        run.path.unlink()
        shard, partition_id = place
        return SortedPiece(
            shard=shard, partition_id=partition_id, path=str(path), row_count=batch.num_rows
        )


def _taken(column: Any, data_type: DataType, order: Any) -> Any:
    """A chunked column in this order, in one piece."""
    if data_type not in ELEMENT_DTYPES:
        taken = column.take(pa.array(order))
        return taken.combine_chunks() if taken.num_chunks != 1 else taken.chunk(0)
    vectors = np.concatenate([vectors_of(chunk) for chunk in column.chunks])[order]
    if not column.null_count:
        return vector_column(vectors)
    valid = column.is_valid().to_numpy(zero_copy_only=False)[order]
    return vector_column(np.where(valid[:, None], vectors, vectors.dtype.type(0)), valid)
