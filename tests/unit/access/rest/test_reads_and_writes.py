"""Bodies of entities/* to requests; and whole round trips over the real handlers."""

from typing import Any

import numpy as np
import orjson
import pytest
from tests.unit.access.rest.harness import Client, Recorder

from elanus.access.dml.delete import delete
from elanus.access.dml.insert import insert, upsert
from elanus.access.dql.hybrid import hybrid_search
from elanus.access.dql.query import query
from elanus.access.dql.search import search
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.wire.placeholders import decode_placeholders, decode_queries
from elanus.wire.protocol import common, milvus
from elanus.wire.schema import pairs_to_dict
from elanus.wire.templates import decode_templates

VECTOR = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"})
HANDLERS = {
    "Insert": insert,
    "Upsert": upsert,
    "Delete": delete,
    "Search": search,
    "HybridSearch": hybrid_search,
    "Query": query,
}
KEY = FieldSchema(name="key", data_type=DataType.INT64, is_primary=True)
VECTOR = FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"})
NAME = FieldSchema(name="name", data_type=DataType.VARCHAR, type_params={"max_length": "20"})


async def asked(recorder: Recorder, route: str, **body: Any) -> Any:
    """The one request that a body becomes."""
    answer = await recorder(f"entities/{route}", {"collectionName": "things", **body})
    assert answer["code"] == 0, answer
    [(_, request)] = recorder.requests
    return request


async def refused(client: Any, route: str, **body: Any) -> tuple[int, str]:
    answer = await client(f"entities/{route}", {"collectionName": "things", **body})
    return answer["code"], answer.get("message", "")


# --- requests ----------------------------------------------------------------------------------


async def test_a_search_has_defaults(recorder: Recorder) -> None:
    request = await asked(recorder, "search", data=[[0.5, 2], [1, 1e-3]])
    np.testing.assert_array_equal(
        decode_queries(request.placeholder_group, VECTOR), np.float32([[0.5, 2], [1, 1e-3]])
    )
    assert (request.nq, request.dsl, request.dsl_type) == (2, "", 1)
    assert request.use_default_consistency
    params = pairs_to_dict(request.search_params)
    assert params == {"topk": "100", "params": "{}", "anns_field": ""}


async def test_everything_of_a_search_travels(recorder: Recorder) -> None:
    request = await asked(
        recorder,
        "search",
        data=[[1, 2]],
        annsField="v",
        filter="a > {low}",
        exprParams={"low": 3, "names": ["a"], "mixed": [1, "x"], "half": 0.5, "on": True},
        limit=7,
        offset=2,
        outputFields=["a", "b"],
        partitionNames=["p"],
        groupingField="a",
        groupSize=2,
        strictGroupSize=True,
        searchParams={"metric_type": "L2", "ignore_growing": True, "params": {"ef": 9, "z": [1]}},
        params={"radius": 0.5, "range_filter": 0.1},
        consistencyLevel="Session",
    )
    assert pairs_to_dict(request.search_params) == {
        "metric_type": "L2",
        "ignore_growing": "true",
        "topk": "7",
        "offset": "2",
        "anns_field": "v",
        "params": '{"ef":9,"z":[1],"radius":0.5,"range_filter":0.1}',
        "group_by_field": "a",
        "group_size": "2",
        "strict_group_size": "true",
    }
    assert decode_templates(request.expr_template_values) == {
        "low": 3,
        "names": ["a"],
        "mixed": [1, "x"],
        "half": 0.5,
        "on": True,
    }
    assert (request.dsl, list(request.output_fields)) == ("a > {low}", ["a", "b"])
    assert list(request.partition_names) == ["p"]
    assert (request.use_default_consistency, request.consistency_level) == (False, 1)


async def test_texts_to_search_for(recorder: Recorder) -> None:
    request = await asked(recorder, "search", data=["one", "two"])
    assert decode_placeholders(request.placeholder_group).texts() == ["one", "two"]


async def test_a_hybrid_search(recorder: Recorder) -> None:
    request = await asked(
        recorder,
        "hybrid_search",
        search=[
            {"data": [[1, 2]], "annsField": "a", "limit": 5, "params": {"ef": 3}},
            {"data": [[3, 4]], "annsField": "b", "metricType": "IP", "filter": "x in {k}",
             "exprParams": {"k": [1, 2]}},
        ],
        rerank={"strategy": "weighted", "params": {"weights": [0.2, 0.8]}},
        limit=3,
        offset=1,
        outputFields=["x"],
        consistencyLevel="Strong",
    )  # fmt: skip
    assert pairs_to_dict(request.rank_params) == {
        "limit": "3",
        "offset": "1",
        "strategy": "weighted",
        "params": '{"weights":[0.2,0.8]}',
    }
    first, second = request.requests
    expected = {"anns_field": "a", "topk": "5", "params": '{"ef":3}'}
    assert pairs_to_dict(first.search_params) == expected
    expected = {"anns_field": "b", "metric_type": "IP", "params": "{}"}
    assert pairs_to_dict(second.search_params) == expected
    assert (second.dsl, decode_templates(second.expr_template_values)) == (
        "x in {k}",
        {"k": [1, 2]},
    )
    assert (request.consistency_level, request.use_default_consistency) == (0, False)


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({}, {"limit": "100"}),
        ({"limit": 5, "offset": 2}, {"limit": "5", "offset": "2"}),
        ({"limit": 0}, {}),
        ({"limit": -1}, {"limit": "-1"}),
        ({"outputFields": ["count(*)"]}, {}),
    ],
)
async def test_the_limit_of_a_query(
    recorder: Recorder, body: dict[str, Any], params: dict[str, str]
) -> None:
    request = await asked(recorder, "query", filter="a > 1", **body)
    assert pairs_to_dict(request.query_params) == params
    assert list(request.output_fields) == body.get("outputFields", ["*"])


@pytest.mark.parametrize(
    ("route", "body", "code", "text"),
    [
        ("search", {}, 1802, "one of the keys 'data' and 'ids' is required"),
        ("search", {"data": [[1, 2]], "ids": [1]}, 1100, "mutually exclusive"),
        ("search", {"data": [[1, "x"]]}, 1801, "'data[0]' should be FloatVector"),
        ("search", {"data": [[1, 2], [1]]}, 1801, "'data[1]' should be 2 numbers"),
        ("search", {"data": [[1, 2]], "limit": "3"}, 1801, "'limit' should be an integer"),
        ("search", {"data": [[1, 2]], "searchParams": {"params": 3}}, 1100, "must be a dict"),
        ("search", {"data": [[1, 2]], "consistencyLevel": "x"}, 1100, "consistencyLevel can only"),
        ("search", {"data": [{"1": 0.5}]}, 1801, "'data[0]' should be FloatVector"),
        ("search", {"data": [[1, 2]], "orderByFields": ["a"]}, 10, "orderByFields is not supp"),
        ("hybrid_search", {}, 1802, "'search' is required"),
        ("hybrid_search", {"search": [{"annsField": "v"}]}, 1802, "'search[0].data' is required"),
        ("delete", {}, 1802, "'filter' is required"),
        ("delete", {"filter": "a > {x}", "exprParams": {"x": {}}}, 1801, "'exprParams.x'"),
        ("get", {}, 1802, "'id' is required"),
        ("get", {"id": []}, 1802, "'id' is required"),
        ("insert", {}, 1802, "'data' is required"),
        ("insert", {"data": []}, 1802, "'data' is required"),
        ("insert", {"data": "x"}, 1801, "'data' should be an object or an array of objects"),
        ("insert", {"data": [1]}, 1801, "'data[0]' should be an object"),
    ],
)
async def test_bodies_that_are_refused(
    recorder: Recorder, route: str, body: dict[str, Any], code: int, text: str
) -> None:
    found, message = await refused(recorder, route, **body)
    assert (found, text in message) == (code, True), message
    assert recorder.requests == []


async def test_the_failure_of_an_rpc_keeps_its_code(recorder: Recorder) -> None:
    status = common.Status(code=101, error_code=1, reason="collection not loaded")
    recorder.answers["Query"] = lambda _: milvus.QueryResults(status=status)
    answer = await recorder("entities/query", {"collectionName": "things", "filter": "a > 1"})
    assert answer == {"code": 101, "message": "collection not loaded"}


# --- round trips -------------------------------------------------------------------------------


@pytest.fixture
def client(bench: Any) -> Client:
    bench.create(KEY, VECTOR, NAME, dynamic=True)
    return Client(bench.proxy, HANDLERS)


async def fill(client: Any, count: int = 4) -> Any:
    rows = [
        {"key": n, "vector": [n, 0.1], "name": f"n{n}", **({"odd": True} if n % 2 else {})}
        for n in range(count)
    ]
    return await client("entities/insert", {"collectionName": "things", "data": rows})


async def test_inserted_rows_are_read_back(client: Client) -> None:
    data = {"insertCount": 4, "insertIds": [0, 1, 2, 3]}
    assert await fill(client) == {"code": 0, "data": data, "cost": 0}
    got = await client("entities/get", {"collectionName": "things", "id": [1, "2", 99]})
    assert got["data"] == [
        {"key": 1, "vector": [1.0, 0.1], "name": "n1", "odd": True},
        {"key": 2, "vector": [2.0, 0.1], "name": "n2"},
    ]
    body = {"collectionName": "things", "filter": "odd == true", "outputFields": ["name", "odd"]}
    found = (await client("entities/query", body))["data"]
    assert found == [{"key": 1, "name": "n1", "odd": True}, {"key": 3, "name": "n3", "odd": True}]
    body = {"collectionName": "things", "outputFields": ["count(*)"]}
    assert (await client("entities/query", body))["data"] == [{"count(*)": 4}]


async def test_hits_come_in_one_list_with_the_key_under_its_name(client: Client) -> None:
    await fill(client)
    body = {
        "collectionName": "things",
        "data": [[0, 0.1], [3, 0.1]],
        "limit": 2,
        "outputFields": ["name"],
    }
    assert await client("entities/search", body) == {
        "code": 0,
        "cost": 0,
        "data": [
            {"key": 0, "distance": 0.0, "name": "n0"},
            {"key": 1, "distance": 1.0, "name": "n1"},
            {"key": 3, "distance": 0.0, "name": "n3"},
            {"key": 2, "distance": 1.0, "name": "n2"},
        ],
        "topks": [2, 2],
    }
    by_id = await client("entities/search", {"collectionName": "things", "ids": ["3"], "limit": 1})
    assert by_id["data"] == [{"key": 3, "distance": 0.0}]
    none = await client("entities/search", {**body, "filter": "key > 100"})
    assert none == {"code": 0, "cost": 0, "data": []}


async def test_int64_as_text_on_demand(client: Client) -> None:
    headers = {"accept-type-allow-int64": "false"}
    rows = [{"key": 1 << 60, "vector": [0, 0], "name": "x"}]
    inserted = await client("entities/insert", {"collectionName": "things", "data": rows}, headers)
    assert inserted["data"]["insertIds"] == [str(1 << 60)]
    body = {"collectionName": "things", "data": [[0, 0]]}
    assert (await client("entities/search", body, headers))["data"][0]["key"] == str(1 << 60)
    assert (await client("entities/search", body))["data"][0]["key"] == 1 << 60


async def test_hybrid_search_upsert_and_delete(client: Client) -> None:
    await fill(client)
    part = {"data": [[1, 0.1]], "annsField": "vector", "limit": 2}
    body = {"collectionName": "things", "search": [part, part], "limit": 1}
    hits = (await client("entities/hybrid_search", body))["data"]
    assert [hit["key"] for hit in hits] == [1]
    row = {"key": 1, "name": "new"}
    body = {"collectionName": "things", "data": row, "partialUpdate": True}
    upserted = await client("entities/upsert", body)
    assert upserted["data"] == {"upsertCount": 1, "upsertIds": [1]}
    body = {"collectionName": "things", "filter": "key in {k}", "exprParams": {"k": [2, 3]}}
    assert (await client("entities/delete", body))["data"] == {"deleteCount": 2}
    rows = (await client("entities/query", {"collectionName": "things"}))["data"]
    assert [(row["key"], row["name"], row.get("odd")) for row in rows] == [
        (0, "n0", None),
        (1, "new", True),
    ]


async def test_text_keys(bench: Any) -> None:
    bench.create(FieldSchema(**{**_fields(NAME), "is_primary": True}), VECTOR, name="words")
    client = Client(bench.proxy, HANDLERS)
    rows = [{"name": name, "vector": [1, 2]} for name in ("a", 'say "hi"', "7")]
    answer = await client("entities/insert", {"collectionName": "words", "data": rows})
    assert answer["data"]["insertIds"] == ["a", 'say "hi"', "7"]
    body = {"collectionName": "words", "id": ['say "hi"', 7], "outputFields": ["name"]}
    assert {row["name"] for row in (await client("entities/get", body))["data"]} == {
        'say "hi"',
        "7",
    }


def _fields(field: FieldSchema) -> dict[str, Any]:
    return {name: getattr(field, name) for name in ("name", "data_type", "type_params")}


@pytest.mark.parametrize("key", ["x", 1.5, True, {}, 1 << 63])
async def test_what_is_no_key(client: Client, key: Any) -> None:
    code, message = await refused(client, "get", id=[1, key])
    assert (code, message[:26]) == (1806, "fail to check primary key,")


async def test_a_missing_collection_is_named(client: Client) -> None:
    body = {"collectionName": "nothing", "data": [{"key": 1}]}
    assert await client("entities/insert", body) == {
        "code": 100,
        "message": "can't find collection[database=default][collection=nothing]",
    }


async def test_large_bodies_and_answers_are_the_same(client: Client) -> None:
    rows = [{"key": n, "vector": [n, 1], "name": "x" * 20, "text": "y" * 200} for n in range(2_000)]
    content = orjson.dumps({"collectionName": "things", "data": rows})
    assert len(content) > 256 * 1024
    path = "/v2/vectordb/entities/insert"
    answer = await client.send("POST", path, content, chunk=65_536)
    assert answer.json["data"]["insertCount"] == 2_000
    got = await client("entities/query", {"collectionName": "things", "limit": 2_000})
    assert sorted(got["data"], key=lambda row: row["key"]) == rows
