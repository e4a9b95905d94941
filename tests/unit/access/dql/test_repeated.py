"""Searches that say the same as an earlier one: what is remembered of it, and for how long."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest

from elanus.access import dispatch
from elanus.access.dispatch import Dispatcher
from elanus.access.dml.insert import insert
from elanus.access.dql.repeated import MAX_KEY_BYTES, key_of
from elanus.access.dql.search import search
from elanus.errors import CollectionNotLoaded, InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.timestamp import compose
from elanus.model.types import ConsistencyLevel, DataType, LoadState, MetricType
from elanus.wire.placeholders import encode_vectors
from elanus.wire.protocol import milvus, parse

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


class Unobserved:
    def observe(self, *_: Any) -> None:
        pass


class Wire:
    """Requests as clients send them. ``reads``: how many of them were read as messages."""

    def __init__(self, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self._dispatcher = Dispatcher(bench.proxy, {"Search": search}, Unobserved())

        def counted(*args: Any) -> Any:
            self.reads += 1
            return parse(*args)

        monkeypatch.setattr(dispatch, "parse", counted)

    async def send(self, body: bytes) -> Any:
        method = "/milvus.proto.milvus.MilvusService/Search"
        answer = await self._dispatcher.handle(method, {}, body, None)
        return milvus.SearchResults.FromString(answer)

    async def found(self, request: Any) -> list[int]:
        answer = await self.send(request.SerializeToString())
        assert answer.status.code == 0, answer.status.reason
        return list(answer.results.ids.int_id.data)


@pytest.fixture
def wire(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(bench, monkeypatch)


async def test_the_same_bytes_are_read_only_until_they_are_known(bench: Any, wire: Wire) -> None:
    await fill(bench)
    for _ in range(3):
        for row, vector in enumerate(ROWS):
            request = bench.search_request([vector], limit=1, guarantee_timestamp=2)
            assert await wire.found(request) == [row]
    assert wire.reads == 2


async def test_several_vectors_are_searched_each(bench: Any, wire: Wire) -> None:
    await fill(bench)
    for _ in range(3):
        assert await wire.found(bench.search_request(ROWS, limit=1)) == [0, 1, 2, 3]
        assert await wire.found(bench.search_request(ROWS[::-1], limit=1)) == [3, 2, 1, 0]


async def test_equally_long_requests_that_say_something_else_are_told_apart(
    bench: Any, wire: Wire
) -> None:
    await fill(bench)
    for _ in range(3):
        for least in range(4):
            request = bench.search_request([ROWS[0]], limit=1, dsl=f"id >= {least}")
            assert await wire.found(request) == [least]
        # As long as the others, with the vector elsewhere.
        request = bench.search_request([ROWS[1]], limit=1000, dsl="id > 1")
        assert await wire.found(request) == [2, 3]


async def test_known_bytes_mean_what_the_newest_index_says(bench: Any, wire: Wire) -> None:
    info = await fill(bench)
    request = bench.search_request([[1.0, 0.1]], limit=1)
    for _ in range(3):
        assert await wire.found(request) == [1]
    indexes = bench.cluster.indexes[info.collection_id]
    bench.cluster.indexes[info.collection_id] = [
        msgspec.structs.replace(index, metric_type=MetricType.IP) for index in indexes
    ]
    bench.cluster.change(info)
    for _ in range(3):
        assert await wire.found(request) == [3]


async def test_each_request_reaches_its_own_instant(bench: Any, wire: Wire) -> None:
    await fill(bench)
    for _ in range(3):
        for guarantee_ts in (5, 6):
            await wire.found(
                bench.search_request(
                    [ROWS[0]],
                    limit=1,
                    guarantee_timestamp=guarantee_ts,
                    consistency_level=ConsistencyLevel.SESSION,
                )
            )
            assert bench.cluster.seen[-1].guarantee_ts == guarantee_ts


async def test_requests_with_instants_of_their_own_leave_others_known(
    bench: Any, wire: Wire
) -> None:
    await fill(bench)
    for _ in range(2):
        await wire.found(bench.search_request([ROWS[0]], limit=1, guarantee_timestamp=2))
    reads = wire.reads
    for past_ms in range(1, 4):
        moment = compose(past_ms)
        request = bench.search_request([ROWS[1]], limit=1, guarantee_timestamp=moment)
        assert await wire.found(request) == [1]
    assert wire.reads == reads + 3
    await wire.found(bench.search_request([ROWS[0]], limit=1, guarantee_timestamp=2))
    assert wire.reads == reads + 3


@pytest.mark.parametrize(
    ("vector", "text"),
    [([np.nan, 1.0], "'NaN' is not a number"), ([1.0, np.inf], "'[+]Inf' is not a number")],
)
async def test_known_bytes_with_a_vector_that_can_not_be_are_refused(
    bench: Any, wire: Wire, vector: list[float], text: str
) -> None:
    await fill(bench)
    for _ in range(3):
        await wire.found(bench.search_request([ROWS[0]], limit=1))
    answer = await wire.send(bench.search_request([vector], limit=1).SerializeToString())
    assert answer.status.code == InvalidParameter.code
    assert re.search(text, answer.status.reason)


async def test_a_request_that_names_its_vectors_twice_is_read_each_time(
    bench: Any, wire: Wire
) -> None:
    await fill(bench)
    for row, vector in [*enumerate(ROWS)] * 2:
        request = bench.search_request([vector], limit=1)
        first = milvus.SearchRequest(placeholder_group=encode_vectors(np.float32([[7, 7]])))
        body = first.SerializeToString() + request.SerializeToString()
        answer = await wire.send(body)
        assert list(answer.results.ids.int_id.data) == [row]
    assert wire.reads == 2 * len(ROWS)
