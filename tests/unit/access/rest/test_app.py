"""HTTP: routes, methods, headers, the envelope, time limits."""

import asyncio
from typing import Any

import pytest
from tests.unit.access.rest.harness import Client, Recorder

from elanus.access.ddl import HANDLERS
from elanus.access.rest.routes import ROUTES, UNIMPLEMENTED
from elanus.transport.base import GrpcError, GrpcStatus
from elanus.wire.protocol import milvus

LIST = "/v2/vectordb/collections/list"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", LIST),
        ("PUT", LIST),
        ("POST", "/v2/vectordb/collections/nothing"),
        ("POST", "/v2/vectordb/"),
        ("POST", "/collections/list"),
        ("POST", "/"),
    ],
)
async def test_other_routes_and_methods_are_not_found(
    recorder: Recorder, method: str, path: str
) -> None:
    answer = await recorder.client.send(method, path, b"{}")
    assert (answer.status, path in answer.json["message"]) == (404, True)


async def test_browsers_may_ask_first(recorder: Recorder) -> None:
    answer = await recorder.client.send("OPTIONS", LIST)
    assert (answer.status, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_answers_are_json_that_any_origin_may_read(recorder: Recorder) -> None:
    recorder.answers["ShowCollections"] = lambda _: milvus.ShowCollectionsResponse(
        collection_names=["a<b>", "ü"]
    )
    answer = await recorder.client.send("POST", LIST, b"{}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content.decode() == '{"code":0,"data":["a<b>","ü"]}'


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]"])
async def test_what_is_not_json_is_refused_with_status_200(
    recorder: Recorder, content: bytes
) -> None:
    answer = await recorder.client.send("POST", LIST, content)
    assert (answer.status, answer.json["code"]) == (200, 1801)
    assert answer.json["message"].startswith("can only accept json format request, error: ")


@pytest.mark.parametrize(
    ("body", "headers", "database"),
    [
        ({}, {}, "default"),
        ({}, {"db-name": "header"}, "header"),
        ({"dbName": "body"}, {"db-name": "header"}, "body"),
    ],
)
async def test_the_database_of_the_body_wins(
    recorder: Recorder, body: dict[str, Any], headers: dict[str, str], database: str
) -> None:
    await recorder("collections/list", body, headers)
    assert recorder.databases == [database]
    assert recorder.requests[0][1].db_name == database


async def test_every_route_that_is_not_there_yet_says_so_by_name(recorder: Recorder) -> None:
    assert not UNIMPLEMENTED & ROUTES.keys()
    for route in sorted(UNIMPLEMENTED):
        answer = await recorder(route, {})
        assert answer["code"] == 10
        assert f"the route /v2/vectordb/{route} is not implemented yet" in answer["message"]


async def test_a_route_whose_rpc_is_not_there_yet_says_so(bench: Any) -> None:
    answer = await Client(bench.proxy, HANDLERS)("collections/truncate", {"collectionName": "c"})
    assert answer["code"] == 10
    assert "the route /v2/vectordb/collections/truncate is not implemented" in answer["message"]


@pytest.mark.parametrize(("headers", "settings"), [({}, 20), ({"request-timeout": "x"}, 20)])
async def test_a_request_that_takes_too_long(
    bench: Any, headers: dict[str, str], settings: int
) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    client = Client(bench.proxy, {"Query": hang}, request_timeout_ms=settings)
    content = b'{"collectionName": "c"}'
    answer = await client.send("POST", "/v2/vectordb/entities/query", content, headers)
    assert answer.status == 408
    assert answer.json == {"code": 10001, "message": "request timeout"}


async def test_the_time_limit_of_the_header_reaches_the_handler(bench: Any) -> None:
    remaining: list[float] = []

    async def look(proxy: Any, request: Any, context: Any) -> Any:
        remaining.append(context.remaining_s(proxy.world.clock.monotonic_s()))
        return milvus.QueryResults()

    client = Client(bench.proxy, {"Query": look})
    await client("entities/query", {"collectionName": "c"}, {"request-timeout": "7"})
    await client("entities/query", {"collectionName": "c"})
    assert [round(seconds) for seconds in remaining] == [7, 30]


@pytest.mark.parametrize(
    ("status", "http_status", "code"),
    [
        (GrpcStatus.UNAUTHENTICATED, 401, 1800),
        (GrpcStatus.PERMISSION_DENIED, 403, 65535),
    ],
)
async def test_missing_logins_and_permissions(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, status: Any, http_status: int, code: int
) -> None:
    async def refuse(*_: Any) -> Any:
        raise GrpcError(status, "PrivilegeQuery: permission deny")

    monkeypatch.setattr(recorder.client.app._dispatcher, "call", refuse)
    answer = await recorder.client.send("POST", LIST, b"{}")
    assert (answer.status, answer.json["code"]) == (http_status, code)


async def test_the_api_can_be_switched_off(bench: Any) -> None:
    client = Client(bench.proxy, {}, enabled=False)
    assert (await client.send("POST", LIST, b"{}")).status == 404


@pytest.mark.parametrize(
    ("route", "body", "method", "fields"),
    [
        ("collections/rename", {"collectionName": "a", "newCollectionName": "b", "newDbName": "d"},
         "RenameCollection", {"oldName": "a", "newName": "b", "newDBName": "d"}),
        ("collections/refresh_load", {"collectionName": "a"}, "LoadCollection", {"refresh": True}),
        ("collections/drop_properties", {"collectionName": "a", "propertyKeys": ["k"]},
         "AlterCollection", {"delete_keys": ["k"]}),
        ("collections/fields/alter_properties",
         {"collectionName": "a", "fieldName": "f", "fieldParams": {"max_length": 3}},
         "AlterCollectionField", {"field_name": "f"}),
        ("collections/flush", {"collectionName": "a"}, "Flush", {"collection_names": ["a"]}),
        ("collections/compact", {"collectionName": "a", "isClustering": True},
         "ManualCompaction", {"majorCompaction": True}),
        ("partitions/load", {"collectionName": "a", "partitionNames": ["p"]},
         "LoadPartitions", {"partition_names": ["p"]}),
        ("partitions/create", {"collectionName": "a", "partitionName": "p"},
         "CreatePartition", {"partition_name": "p"}),
        ("aliases/alter", {"collectionName": "a", "aliasName": "n"},
         "AlterAlias", {"collection_name": "a", "alias": "n"}),
        ("databases/create", {"dbName": "d"}, "CreateDatabase", {"db_name": "d"}),
        ("databases/drop_properties", {"dbName": "d", "propertyKeys": ["k"]},
         "AlterDatabase", {"db_name": "d", "delete_keys": ["k"]}),
        ("indexes/drop", {"collectionName": "a", "indexName": "i"},
         "DropIndex", {"collection_name": "a", "index_name": "i"}),
        ("indexes/drop_properties", {"collectionName": "a", "indexName": "i",
         "propertyKeys": ["k"]}, "AlterIndex", {"index_name": "i", "delete_keys": ["k"]}),
    ],
)  # fmt: skip
async def test_definitions_become_one_request(
    recorder: Recorder, route: str, body: Any, method: str, fields: dict[str, Any]
) -> None:
    answer = await recorder(route, body)
    assert answer["code"] == 0
    [(name, request)] = recorder.requests
    assert name == method
    found = {key: getattr(request, key) for key in fields}
    assert {key: list(v) if isinstance(fields[key], list) else v for key, v in found.items()} == (
        fields
    )


async def test_each_route_requires_its_names(recorder: Recorder) -> None:
    free = {
        "collections/list",
        "databases/list",
        "aliases/list",
        "collections/get_compaction_state",
        "resource_groups/list",
        "jobs/import/list",
    }
    for route in sorted(ROUTES.keys() - free):
        answer = await recorder(route, {})
        assert (answer["code"], "required" in answer["message"]) == (1802, True), route
        assert recorder.requests == []
