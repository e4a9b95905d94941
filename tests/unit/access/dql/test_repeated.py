"""Searches that say the same as an earlier one: what is remembered of it, and for how long."""

from typing import Any

import msgspec
import numpy as np
import pytest

from elanus.access.dml.insert import insert
from elanus.access.dql.repeated import MAX_KEY_BYTES, key_of
from elanus.access.dql.search import search
from elanus.errors import CollectionNotLoaded, InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, LoadState, MetricType
from elanus.wire.protocol import milvus

KEY = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
VECTOR = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"})
ROWS = [[0.0, 1.0], [1.0, 0.0], [3.0, 3.0], [9.0, 0.0]]


async def fill(bench: Any) -> Any:
    info = bench.create(KEY, VECTOR)
    sent = milvus.InsertRequest(collection_name="things", num_rows=len(ROWS))
    bench.add_column(sent, "id", DataType.INT64, list(range(len(ROWS))))
    bench.add_column(sent, "v", DataType.FLOAT_VECTOR, np.array(ROWS, np.float32))
    await bench.call(insert, sent)
    return info


async def found(bench: Any, vector: list[float], **options: Any) -> list[int]:
    answer = await bench.call(search, bench.search_request([vector], limit=1, **options))
    return list(answer.results.ids.int_id.data)


async def test_each_search_finds_what_is_near_to_its_own_vector(bench: Any) -> None:
    await fill(bench)
    for row, vector in enumerate(ROWS):
        assert await found(bench, vector) == [row]
        assert await found(bench, vector, dsl="id > 1") == [max(row, 2)]


async def test_a_vector_that_does_not_fit_is_refused_after_one_that_did(bench: Any) -> None:
    await fill(bench)
    assert await found(bench, ROWS[0]) == [0]
    with pytest.raises(InvalidParameter, match="vector dimension mismatch"):
        await found(bench, [1.0, 2.0, 3.0])


async def test_what_is_released_is_not_searched(bench: Any) -> None:
    info = await fill(bench)
    assert await found(bench, ROWS[0]) == [0]
    bench.load(info, state=LoadState.NOT_LOAD)
    bench.cluster.change(info)
    with pytest.raises(CollectionNotLoaded):
        await found(bench, ROWS[0])


async def test_a_search_means_what_the_newest_index_says(bench: Any) -> None:
    info = await fill(bench)
    assert await found(bench, [1.0, 0.1]) == [1]
    indexes = bench.cluster.indexes[info.collection_id]
    bench.cluster.indexes[info.collection_id] = [
        msgspec.structs.replace(index, metric_type=MetricType.IP) for index in indexes
    ]
    bench.cluster.change(info)
    assert await found(bench, [1.0, 0.1]) == [3]


def test_a_key_leaves_out_the_vectors_and_the_timestamp_and_the_request_as_it_was(
    bench: Any,
) -> None:
    first = bench.search_request([[1, 2]], guarantee_timestamp=5)
    other = bench.search_request([[3, 4]], guarantee_timestamp=6)
    before = first.SerializeToString(deterministic=True)
    assert key_of(first) == key_of(other)
    assert first.SerializeToString(deterministic=True) == before
    assert key_of(first) != key_of(bench.search_request([[1, 2]], dsl="id > 1"))
    assert key_of(bench.search_request([[1, 2]], dsl="x" * MAX_KEY_BYTES)) is None
