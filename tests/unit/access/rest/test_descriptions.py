"""Descriptions of collections and indexes, over the real handlers of definitions."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.access.fakes import Server
from tests.unit.access.rest.harness import Client

from elanus.access.ddl import HANDLERS

BODY = {
    "collectionName": "c",
    "description": "all sorts",
    "schema": {
        "fields": [
            {"fieldName": "key", "dataType": "Int64", "isPrimary": True},
            {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 8}},
            {
                "fieldName": "text",
                "dataType": "VarChar",
                "elementTypeParams": {"max_length": 9},
                "defaultValue": "123",
            },
            {
                "fieldName": "tags",
                "dataType": "Array",
                "elementDataType": "Int8",
                "elementTypeParams": {"max_capacity": 3},
                "nullable": True,
            },
        ]
    },
}
INDEX = {"fieldName": "v", "metricType": "L2", "indexType": "FLAT"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    await made.close()


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server._dispatcher._proxy, HANDLERS)


async def test_a_collection_is_described(server: Server, client: Client) -> None:
    await client("collections/create", {**BODY, "indexParams": [INDEX]})
    answer = await client("collections/describe", {"collectionName": "c"})
    data = answer["data"]
    fields = {field["name"]: field for field in data.pop("fields")}
    assert {key: value for key, value in data.items() if key != "collectionID"} == {
        "collectionName": "c",
        "description": "all sorts",
        "autoId": False,
        "structFields": [],
        "functions": [],
        "aliases": ["c_alias"],
        "indexes": [{"indexName": "v", "fieldName": "v", "metricType": "L2"}],
        "load": "LoadStateLoading",
        "shardsNum": 1,
        "partitionsNum": 1,
        "consistencyLevel": "Bounded",
        "enableDynamicField": False,
        "properties": data["properties"],
    }
    assert fields["key"]["primaryKey"] is True
    assert fields["v"]["params"] == [{"key": "dim", "value": "8"}]
    assert fields["text"]["type"] == "VarChar"
    assert fields["text"]["defaultValue"] == {"Data": {"StringData": "123"}}
    assert (fields["tags"]["elementType"], fields["tags"]["nullable"]) == ("Int8", True)
    assert answer["message"] == ""


async def test_a_collection_without_index_says_so_beside_its_description(client: Client) -> None:
    await client("collections/create", BODY)
    answer = await client("collections/describe", {"collectionName": "c"})
    assert (answer["code"], answer["message"]) == (0, "index not found[collection=c];")
    assert (await client("indexes/list", {"collectionName": "c"}))["data"] == []
    missing = await client("indexes/describe", {"collectionName": "c", "indexName": "i"})
    assert missing["code"] == 700


async def test_an_index_is_described(client: Client) -> None:
    await client("collections/create", {**BODY, "indexParams": [INDEX]})
    body = {"collectionName": "c", "indexName": "v"}
    [index] = (await client("indexes/describe", body))["data"]
    assert index["indexType"] == "FLAT"
    assert (index["metricType"], index["fieldName"], index["totalRows"]) == ("L2", "v", 0)
    assert (index["indexState"], index["failReason"], index["mmap.enabled"]) == ("Finished", "", "")
    assert {"key": "metric_type", "value": "L2"} in index["indexParams"]


async def test_how_far_a_collection_is_loaded(server: Server, client: Client) -> None:
    async def state() -> Any:
        return await client("collections/get_load_state", {"collectionName": "c"})

    assert (await state())["code"] == 100
    await client("collections/create", BODY)
    assert (await state())["data"] == {"loadState": "LoadStateNotLoad", "loadProgress": 0}
    await client("indexes/create", {"collectionName": "c", "indexParams": [INDEX]})
    await client("collections/load", {"collectionName": "c"})
    assert (await state())["data"] == {"loadState": "LoadStateLoading", "loadProgress": 40}
    for collection_id in server.coordinator.loads:
        server.coordinator.finish_loading(collection_id)
    assert (await state())["data"] == {"loadState": "LoadStateLoaded", "loadProgress": 100}


async def test_lists_and_statistics(client: Client) -> None:
    await client("collections/create", BODY)
    assert (await client("collections/list", {}))["data"] == ["c"]
    assert (await client("collections/has", {"collectionName": "c"}))["data"] == {"has": True}
    assert (await client("collections/has", {"collectionName": "d"}))["data"] == {"has": False}
    stats = await client("collections/get_stats", {"collectionName": "c"})
    assert stats["data"] == {"rowCount": 0}
    assert (await client("partitions/list", {"collectionName": "c"}))["data"] == ["_default"]
    assert (await client("databases/list", {}))["data"] == ["default"]
    assert (await client("databases/describe", {"dbName": "default"}))["data"] == {
        "dbName": "default",
        "dbID": 1,
        "properties": [],
    }
    unknown = await client("collections/list", {"dbName": "nowhere"})
    assert unknown == {"code": 800, "message": "database not found[database=nowhere]"}
