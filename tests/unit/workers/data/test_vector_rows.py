"""Vectors of every kind through segment files, compaction and what an index is built of."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.coordinator.support import make_world
from tests.unit.engine.vectors.oracle import DENSE, plain_rows, random_vectors, schema_with

from elanus.model.types import DataType
from elanus.storage.formats.columns import map_column
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_reader import open_segment
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.workers.data.rows import merge

EVERY = (*DENSE, DataType.BINARY_VECTOR, DataType.SPARSE_FLOAT_VECTOR)


@pytest.mark.parametrize("nullable", [False, True])
@pytest.mark.parametrize("kind", EVERY)
async def test_compaction_keeps_vectors_with_their_rows(
    kind: DataType, nullable: bool, tmp_path: Path
) -> None:
    world, random = make_world(), np.random.default_rng(4)
    objects = MemoryObjectStore(world)
    schema = schema_with(kind, nullable)
    inputs, kept, expected = [], [], {}
    for number, nulls in enumerate((nullable, False), 1):
        keys = np.sort(random.permutation(400)[:150]) * 2 + number
        column = random_vectors(kind, 150, random, nulls)
        batch = pa.RecordBatch.from_arrays([pa.array(keys)] * 2 + [column], schema=schema.arrow)
        place = SegmentPlace(1, 2, number, number)
        stamps = np.full(150, number, np.uint64)
        key, manifest = await write_segment(
            world, objects, batch, stamps, place=place, schema_version=1
        )
        files = await open_segment(world, objects, key)
        stored = manifest.column("vector")
        assert stored is not None
        assert stored.null_count == column.null_count
        (tmp_path / "column").write_bytes(await objects.get(stored.key))
        assert len(map_column(str(tmp_path / "column"))) == 150
        inputs.append(files)
        kept.append(np.flatnonzero(random.random(150) < 0.6))
        plain = plain_rows(kind, column)
        expected |= {int(keys[at]): plain[at] for at in kept[-1]}
    merged = merge(schema, inputs, kept).rows
    assert merged.schema.equals(schema.arrow)
    assert merged.column("pk").to_pylist() == sorted(expected)
    found = plain_rows(kind, merged.column("vector"))
    assert found == [expected[key] for key in sorted(expected)]
