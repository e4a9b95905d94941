"""Definitions, loading, flushing and operation, in the words of the protocol."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson
import pytest
from tests.unit.access.fakes import Server, growing, segment

from elanus.model.catalog import CollectionInfo, SegmentIndex
from elanus.model.types import IndexState, SegmentLevel
from elanus.services.messages import FlushTicket
from elanus.wire.protocol import common, milvus, packed, schema
from elanus.wire.status import status_of


def pairs(**values: str) -> list[Any]:
    return [common.KeyValuePair(key=key, value=value) for key, value in values.items()]


def books_schema(*extra: Any, **options: Any) -> bytes:
    fields = [
        schema.FieldSchema(name="id", data_type=5, is_primary_key=True),
        schema.FieldSchema(name="vector", data_type=101, type_params=pairs(dim="8")),
        *extra,
    ]
    return bytes(
        schema.CollectionSchema(name="books", fields=fields, **options).SerializeToString()
    )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    await made.close()


@pytest.fixture
async def books(server: Server) -> CollectionInfo:
    request = milvus.CreateCollectionRequest(
        collection_name="books", schema=books_schema(enable_dynamic_field=True), consistency_level=2
    )
    assert (await server.call("CreateCollection", request)).code == 0
    return server.coordinator.collections["default", "books"]


async def index(server: Server, field: str = "vector", **params: str) -> Any:
    request = milvus.CreateIndexRequest(
        collection_name="books", field_name=field, extra_params=pairs(**params)
    )
    return await server.call("CreateIndex", request)


def refusal(response: Any) -> tuple[int, str]:
    status = status_of(response)
    return status.code, status.reason


# --- collections --------------------------------------------------------------------------------


async def test_a_described_collection_is_what_was_created(
    server: Server, books: CollectionInfo
) -> None:
    request = milvus.DescribeCollectionRequest(collection_name="books")
    found = await server.call("DescribeCollection", request)
    assert [field.name for field in found.schema.fields] == ["id", "vector"]
    assert found.schema.enable_dynamic_field
    assert (found.collectionID, found.shards_num, found.num_partitions) == (
        books.collection_id,
        1,
        1,
    )
    assert found.update_timestamp_str == str(found.update_timestamp) == str(7 << 18)
    assert (found.created_utc_timestamp, found.consistency_level) == (7, 2)
    assert (found.db_name, found.db_id, found.aliases) == ("default", 1, ["books_alias"])


async def test_a_collection_is_found_by_its_id(server: Server, books: CollectionInfo) -> None:
    request = milvus.DescribeCollectionRequest(collectionID=books.collection_id)
    assert (await server.call("DescribeCollection", request)).schema.name == "books"


async def test_a_missing_collection_says_so_in_the_words_that_clients_look_for(
    server: Server,
) -> None:
    request = milvus.DescribeCollectionRequest(collection_name="films")
    found = await server.call("DescribeCollection", request)
    assert refusal(found) == (100, "can't find collection[database=default][collection=films]")
    assert found.status.error_code == 1


async def test_has_collection_tells_missing_from_impossible(
    server: Server, books: CollectionInfo
) -> None:
    async def has(name: str) -> Any:
        return await server.call("HasCollection", milvus.HasCollectionRequest(collection_name=name))

    assert (await has("books")).value
    missing = await has("films")
    assert (missing.value, missing.status.code) == (False, 0)
    assert refusal(await has("1films"))[0] == 1100


async def test_an_unknown_database_is_800(server: Server) -> None:
    request = milvus.ShowCollectionsRequest()
    found = await server.call("ShowCollections", request, dbname="library")
    assert refusal(found) == (800, "database not found[database=library]")


async def test_functions_are_refused_by_name(server: Server) -> None:
    function = schema.FunctionSchema(name="bm25")
    request = milvus.CreateCollectionRequest(
        collection_name="books", schema=books_schema(functions=[function])
    )
    code, reason = refusal(await server.call("CreateCollection", request))
    assert code == 10
    assert "bm25" in reason


async def test_shown_in_memory_are_only_the_loaded_ones(
    server: Server, books: CollectionInfo
) -> None:
    request = milvus.ShowCollectionsRequest(type=1)
    assert not (await server.call("ShowCollections", request)).collection_names
    await server.coordinator.load(books.collection_id, (), 1)
    shown = await server.call("ShowCollections", request)
    assert list(shown.inMemory_percentages) == [40]
    assert packed(shown, "query_service_available").tolist() == [False]
    server.coordinator.finish_loading(books.collection_id)
    shown = await server.call("ShowCollections", request)
    assert packed(shown, "query_service_available").tolist() == [True]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"name": "x", "data_type": 5}, "added field must be nullable"),
        ({"name": "x", "data_type": 5, "is_primary_key": True}, "not support to add pk field"),
        ({"name": "x", "data_type": 101, "nullable": True}, "not support to add vector field"),
        (
            {"name": "x", "data_type": 5, "is_partition_key": True},
            "partition key field, field name  = x",
        ),
        ({"name": "id", "data_type": 5, "nullable": True}, "duplicate field name: id"),
        ({"name": "RowID", "data_type": 5, "nullable": True}, "not support to add system field"),
    ],
)
async def test_only_plain_nullable_fields_can_be_added(
    server: Server, books: CollectionInfo, field: dict[str, Any], text: str
) -> None:
    request = milvus.AddCollectionFieldRequest(
        collection_name="books", schema=schema.FieldSchema(**field).SerializeToString()
    )
    assert text in refusal(await server.call("AddCollectionField", request))[1]


# --- indexes ------------------------------------------------------------------------------------


async def describe_index(server: Server, **names: str) -> Any:
    request = milvus.DescribeIndexRequest(collection_name="books", **names)
    return await server.call("DescribeIndex", request)


async def test_an_index_is_described_in_the_users_words(
    server: Server, books: CollectionInfo
) -> None:
    await index(server, index_type="HNSW", metric_type="L2", params='{"M": 16}')
    (found,) = (await describe_index(server)).index_descriptions
    assert {pair.key: pair.value for pair in found.params} == {
        "index_type": "HNSW",
        "metric_type": "L2",
        "params": '{"M": 16}',
    }
    (stored,) = server.coordinator.indexes[books.collection_id]
    assert stored.params == {"M": "16", "efConstruction": "360"}


async def test_autoindex_is_described_as_such(server: Server, books: CollectionInfo) -> None:
    await index(server)
    (found,) = (await describe_index(server)).index_descriptions
    assert {pair.key: pair.value for pair in found.params} == {
        "index_type": "AUTOINDEX",
        "metric_type": "COSINE",
    }


async def test_an_index_is_finished_when_no_row_waits(
    server: Server, books: CollectionInfo
) -> None:
    await index(server)
    (stored,) = server.coordinator.indexes[books.collection_id]
    (empty,) = (await describe_index(server)).index_descriptions
    assert (empty.state, empty.total_rows) == (IndexState.FINISHED, 0)

    part = SegmentIndex(index_id=stored.index_id, state=IndexState.FINISHED)
    server.coordinator.segments = [
        segment(books, 1, 3000, indexes=(part,)),
        segment(books, 2, 2000),
        segment(books, 3, 99, level=SegmentLevel.L0),
    ]
    (building,) = (await describe_index(server)).index_descriptions
    assert (building.total_rows, building.indexed_rows, building.pending_index_rows) == (
        5000,
        3000,
        2000,
    )
    assert building.state == IndexState.IN_PROGRESS

    failed = msgspec.structs.replace(part, state=IndexState.FAILED, fail_reason="disk full")
    server.coordinator.segments[1] = segment(books, 2, 2000, indexes=(failed,))
    (broken,) = (await describe_index(server)).index_descriptions
    assert (broken.state, broken.index_state_fail_reason) == (IndexState.FAILED, "disk full")


async def test_a_scalar_index_is_built_too(server: Server, books: CollectionInfo) -> None:
    await index(server, "id", index_type="STL_SORT")
    server.coordinator.segments = [segment(books, 1, 3000)]
    (found,) = (await describe_index(server)).index_descriptions
    assert (found.state, found.pending_index_rows) == (IndexState.IN_PROGRESS, 3000)


async def test_missing_indexes_and_fields_are_named(server: Server, books: CollectionInfo) -> None:
    assert refusal(await describe_index(server)) == (700, "index not found[collection=books]")
    await index(server)
    assert refusal(await describe_index(server, index_name="x")) == (
        700,
        "index not found[indexName=x]",
    )
    code, reason = refusal(await index(server, "nowhere"))
    assert (code, reason) == (
        65535,
        "cannot create index on non-exist field: nowhere, collection = books",
    )
    code, reason = refusal(await index(server, index_type="HNSW", params='{"index_type": "FLAT"}'))
    assert "duplicated index param (key=index_type) (value=FLAT) found" in reason


# --- load ---------------------------------------------------------------------------------------


async def load(server: Server, **options: Any) -> Any:
    request = milvus.LoadCollectionRequest(collection_name="books", **options)
    return await server.call("LoadCollection", request)


async def load_state(server: Server, name: str = "books") -> Any:
    request = milvus.GetLoadStateRequest(collection_name=name)
    found = await server.call("GetLoadState", request)
    assert found.status.code == 0
    return found.state


async def test_loading_needs_an_index_on_every_vector(
    server: Server, books: CollectionInfo
) -> None:
    assert refusal(await load(server)) == (700, "index not found[collection=books]")
    await index(server, "id", index_type="INVERTED")
    assert refusal(await load(server))[1] == (
        "there is no vector index on field: [vector], please create index firstly"
    )
    await index(server)
    assert (await load(server)).code == 0


async def test_progress_reaches_a_hundred_only_when_loaded(
    server: Server, books: CollectionInfo
) -> None:
    request = milvus.GetLoadingProgressRequest(collection_name="books")
    not_loaded = await server.call("GetLoadingProgress", request)
    assert refusal(not_loaded) == (101, f"collection not loaded[collection={books.collection_id}]")
    assert [await load_state(server, name) for name in ("films", "books")] == [0, 1]
    await index(server)
    await load(server)
    assert await load_state(server) == 2
    assert (await server.call("GetLoadingProgress", request)).progress == 40
    server.coordinator.finish_loading(books.collection_id)
    assert await load_state(server) == 3
    done = await server.call("GetLoadingProgress", request)
    assert (done.progress, done.refresh_progress) == (100, 100)


async def test_only_a_loaded_collection_can_be_refreshed(
    server: Server, books: CollectionInfo
) -> None:
    await index(server)
    assert refusal(await load(server, refresh=True))[0] == 101
    await load(server)
    assert (await load(server, refresh=True)).code == 0


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("LoadPartitions", "failed to load partition, due to no partition specified"),
        (
            "ReleasePartitions",
            "invalid parameter[expected=any partition][actual=empty partition list]",
        ),
    ],
)
async def test_partitions_must_be_named(
    server: Server, books: CollectionInfo, method: str, text: str
) -> None:
    request = getattr(milvus, f"{method}Request")(collection_name="books")
    code, reason = refusal(await server.call(method, request))
    assert (code, text in reason) == (1100, True)


async def test_an_unknown_partition_is_200(server: Server, books: CollectionInfo) -> None:
    request = milvus.LoadPartitionsRequest(collection_name="books", partition_names=["x"])
    assert refusal(await server.call("LoadPartitions", request)) == (
        200,
        "partition not found[partition=x]",
    )


# --- statistics, flush, compaction ---------------------------------------------------------------


async def test_rows_are_counted_once_whether_growing_or_flushed(
    server: Server, books: CollectionInfo
) -> None:
    server.coordinator.segments = [
        segment(books, 1, 100, compacted_from=(7, 8)),
        segment(books, 2, 9, level=SegmentLevel.L0),
    ]
    server.router.growing_segments = [
        growing(books, 1, 100),  # flushed meanwhile
        growing(books, 8, 50),  # flushed and compacted meanwhile
        growing(books, 3, 5),
    ]
    request = milvus.GetCollectionStatisticsRequest(collection_name="books")
    (count,) = (await server.call("GetCollectionStatistics", request)).stats
    assert (count.key, count.value) == ("row_count", "105")
    request = milvus.GetPartitionStatisticsRequest(
        collection_name="books", partition_name="_default"
    )
    (count,) = (await server.call("GetPartitionStatistics", request)).stats
    assert count.value == "105"


async def test_flush_answers_for_every_name_and_waits_for_the_earliest_ticket(
    server: Server, books: CollectionInfo
) -> None:
    server.coordinator.tickets = [
        FlushTicket(vchannel="a", segment_ids=(5,), flush_ts=30),
        FlushTicket(vchannel="b", segment_ids=(), flush_ts=20),
    ]
    server.coordinator.segments = [segment(books, 4, 10)]
    found = await server.call("Flush", milvus.FlushRequest(collection_names=["books"]))
    assert list(found.coll_segIDs["books"].data) == [5]
    assert list(found.flush_coll_segIDs["books"].data) == [4]
    assert found.coll_flush_ts["books"] == 20
    assert found.coll_seal_times["books"] > 0
    request = milvus.GetFlushStateRequest(segmentIDs=[5], collection_name="books", flush_ts=20)
    assert not (await server.call("GetFlushState", request)).flushed
    server.coordinator.flushed_up_to = 20
    assert (await server.call("GetFlushState", request)).flushed


async def test_flush_without_names_is_refused(server: Server) -> None:
    assert refusal(await server.call("Flush", milvus.FlushRequest()))[0] == 1100


async def test_compaction_with_nothing_to_do_is_completed(
    server: Server, books: CollectionInfo
) -> None:
    request = milvus.ManualCompactionRequest(collection_name="books")
    started = await server.call("ManualCompaction", request)
    assert (started.compactionID, started.compactionPlanCount) == (-1, 0)
    state = milvus.GetCompactionStateRequest(compactionID=-1)
    assert (await server.call("GetCompactionState", state)).state == 2


async def test_a_running_compaction_tells_its_plans(server: Server, books: CollectionInfo) -> None:
    server.coordinator.plans = {9: [("completed", (1, 2), 3), ("executing", (4,), 5)]}
    state = await server.call(
        "GetCompactionState", milvus.GetCompactionStateRequest(compactionID=9)
    )
    assert (state.state, state.executingPlanNo, state.completedPlanNo) == (1, 1, 1)
    plans = await server.call(
        "GetCompactionStateWithPlans", milvus.GetCompactionPlansRequest(compactionID=9)
    )
    assert [(list(p.sources), p.target) for p in plans.mergeInfos] == [([1, 2], 3), ([4], 5)]


async def test_query_segments_are_those_of_what_is_loaded(
    server: Server, books: CollectionInfo
) -> None:
    request = milvus.GetQuerySegmentInfoRequest(collectionName="books")
    assert refusal(await server.call("GetQuerySegmentInfo", request))[0] == 101
    await index(server)
    await load(server)
    server.coordinator.segments = [segment(books, 1, 100)]
    server.router.growing_segments = [growing(books, 3, 5)]
    found = (await server.call("GetQuerySegmentInfo", request)).infos
    assert [(s.segmentID, s.num_rows, s.state) for s in found] == [(1, 100, 3), (3, 5, 2)]


# --- the server ---------------------------------------------------------------------------------


async def test_connect_gives_an_identifier_and_a_version(server: Server) -> None:
    found = await server.call("Connect", milvus.ConnectRequest())
    assert found.identifier > 0
    assert [int(part) for part in found.server_info.build_tags.split(".")][:2] == [2, 6]
    version = await server.call("GetVersion", milvus.GetVersionRequest())
    assert version.version == found.server_info.build_tags
    refused = await server.call("Connect", milvus.ConnectRequest(), dbname="library")
    assert refusal(refused)[0] == 800


async def test_the_topology_links_every_role(server: Server) -> None:
    request = milvus.GetMetricsRequest(request='{"metric_type": "system_info"}')
    found = await server.call("GetMetrics", request)
    nodes = orjson.loads(found.response)["nodes_info"]
    kinds = {node["identifier"]: node["infos"]["type"] for node in nodes}
    assert sorted(kinds.values()) == [
        "datanode",
        "mixcoord",
        "proxy",
        "querynode",
        "streamingnode",
    ]
    for node in nodes:
        for link in node["connected"]:
            assert kinds[link["connected_identifier"]] == link["target_type"]


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ('{"metric_type": "x"}', 1200, "metric not found[metric=x]"),
        ("[]", 1200, "metric not found"),
        ("{", 65535, "not valid JSON"),
    ],
)
async def test_other_metrics_are_not_found(server: Server, body: str, code: int, text: str) -> None:
    found = await server.call("GetMetrics", milvus.GetMetricsRequest(request=body))
    assert refusal(found)[0] == code
    assert text in refusal(found)[1]
