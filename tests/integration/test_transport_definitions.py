"""Definitions from a gRPC client down to the coordinator's metadata, over both servers.

The coordinator is the real one on stores in memory; the workers below it only say yes.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest
from tests.worlds import make_world

from elanus.access.ddl import HANDLERS
from elanus.access.dispatch import Dispatcher
from elanus.access.proxy import Proxy
from elanus.config.settings import Settings
from elanus.coordinator.coordinator import Coordinator
from elanus.errors import CollectionNotFound
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.transport.base import TransportOptions, TransportServer, no_rest
from elanus.transport.grpcio_server import GrpcioServer
from elanus.transport.h2corn_server import H2cornServer
from elanus.wire.protocol import SERVICE, common, methods, schema
from elanus.wire.status import status_of


class Workers:
    """A router to workers that have no rows and agree to everything."""

    def __init__(self) -> None:
        self.coordinator: Coordinator | None = None

    def __getattr__(self, name: str) -> Any:
        async def agree(*_: Any, **__: Any) -> None:
            return None

        return agree

    async def streaming_node(self, vchannel: str) -> "Workers":
        return self

    async def streaming_node_by_id(self, node_id: int) -> "Workers":
        return self

    async def streaming_nodes(self) -> list[int]:
        return [1]

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return [1]

    async def query_node(self, node_id: int) -> "Workers":
        return self

    async def growing(self, vchannel: str) -> list[Any]:
        return []

    async def list_segments(self) -> list[Any]:
        return []

    async def update_collection(self, *_: Any) -> int:
        assert self.coordinator is not None
        return await self.coordinator.allocate_timestamps()


class Silent:
    def observe(self, *_: Any) -> None:
        pass


@dataclass
class Client:
    channel: grpc.aio.Channel
    proxy: Proxy

    async def call(self, name: str, **fields: Any) -> Any:
        """The response; the request is made of ``fields``."""
        method = methods()[name]
        body = method.request(**fields).SerializeToString()
        answer = await self.channel.unary_unary(f"/{SERVICE}/{name}")(body)
        return method.response.FromString(answer)

    async def succeed(self, name: str, **fields: Any) -> Any:
        response = await self.call(name, **fields)
        assert status_of(response).code == 0, status_of(response).reason
        return response

    async def refused(self, name: str, **fields: Any) -> tuple[int, str]:
        status = status_of(await self.call(name, **fields))
        return status.code, status.reason


@pytest.fixture(params=["h2corn", "grpcio"])
async def client(request: Any) -> AsyncIterator[Client]:
    world = make_world(cores=1)
    workers = Workers()
    router = cast(Any, workers)
    coordinator = Coordinator(
        world,
        Settings(),
        meta=MemoryMetaStore(world),
        objects=MemoryObjectStore(world),
        router=router,
    )
    workers.coordinator = coordinator
    await coordinator.start()
    proxy = Proxy(world, Settings(), coordinator, router)
    dispatcher = Dispatcher(proxy, HANDLERS, Silent())
    options = TransportOptions(port=0)
    server: TransportServer
    if request.param == "h2corn":
        server = H2cornServer(dispatcher.handle, no_rest, options, world.executor)
    else:
        server = GrpcioServer(dispatcher.handle, no_rest, options)
    await server.start()
    host, port = server.address
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        yield Client(channel, proxy)
    await server.stop(1)
    await coordinator.close()
    await world.tasks.close()
    world.executor.close()


def pairs(**values: str) -> list[Any]:
    return [common.KeyValuePair(key=key, value=value) for key, value in values.items()]


def books(dim: str = "8") -> bytes:
    fields = [
        schema.FieldSchema(name="id", data_type=5, is_primary_key=True),
        schema.FieldSchema(name="vector", data_type=101, type_params=pairs(dim=dim)),
    ]
    return bytes(schema.CollectionSchema(name="books", fields=fields).SerializeToString())


async def test_the_same_collection_can_be_created_again_but_no_other(client: Client) -> None:
    await client.succeed("CreateCollection", collection_name="books", schema=books())
    await client.succeed("CreateCollection", collection_name="books", schema=books())
    assert await client.refused("CreateCollection", collection_name="books", schema=books("4")) == (
        65535,
        "create duplicate collection with different parameters, collection: books",
    )


async def test_a_change_is_known_to_the_proxy_when_it_is_answered(client: Client) -> None:
    await client.succeed("CreateCollection", collection_name="books", schema=books())
    before = await client.proxy.meta.collection("default", "books")
    field = schema.FieldSchema(name="year", data_type=5, nullable=True)
    await client.succeed(
        "AddCollectionField", collection_name="books", schema=field.SerializeToString()
    )
    after = await client.proxy.meta.meta("default", "books")
    assert "year" in after.info.schema.by_name
    assert after.info.updated_ts > before.updated_ts
    assert not after.indexes
    await client.succeed("CreateIndex", collection_name="books", field_name="vector")
    assert "vector" in (await client.proxy.meta.meta("default", "books")).index_by_field
    await client.succeed("DropCollection", collection_name="books")
    with pytest.raises(CollectionNotFound):
        await client.proxy.meta.collection("default", "books")


async def test_an_alias_that_moves_is_followed(client: Client) -> None:
    for name in ("books", "films"):
        message = schema.CollectionSchema.FromString(books())
        message.name = name
        await client.succeed(
            "CreateCollection", collection_name=name, schema=message.SerializeToString()
        )
    await client.succeed("CreateAlias", collection_name="books", alias="media")
    assert (await client.proxy.meta.collection("default", "media")).name == "books"
    await client.succeed("AlterAlias", collection_name="films", alias="media")
    assert (await client.proxy.meta.collection("default", "media")).name == "films"
    described = await client.succeed("DescribeCollection", collection_name="media")
    assert (described.collection_name, described.schema.name) == ("media", "films")
    code, reason = await client.refused("CreateAlias", collection_name="books", alias="media")
    assert code == 1602
    assert "media is alias to another collection: films" in reason


async def test_an_index_is_once_on_a_field(client: Client) -> None:
    await client.succeed("CreateCollection", collection_name="books", schema=books())
    flat = {"index_type": "FLAT", "metric_type": "L2"}
    same = {"collection_name": "books", "field_name": "vector"}
    await client.succeed("CreateIndex", extra_params=pairs(**flat), **same)
    await client.succeed("CreateIndex", extra_params=pairs(**flat), **same)
    other = {"index_type": "HNSW", "metric_type": "L2"}
    assert await client.refused("CreateIndex", extra_params=pairs(**other), **same) == (
        65535,
        "CreateIndex failed: at most one distinct index is allowed per field",
    )
    assert await client.refused(
        "CreateIndex", extra_params=pairs(**other), index_name="second", **same
    ) == (
        65535,
        "CreateIndex failed: creating multiple indexes on same field is not supported",
    )
    await client.succeed("DropIndex", **same)
    assert await client.refused("DescribeIndex", collection_name="books") == (
        700,
        "index not found[collection=books]",
    )
    await client.succeed("DropIndex", index_name="gone", **same)


async def test_databases_keep_collections_apart(client: Client) -> None:
    await client.succeed("CreateDatabase", db_name="library")
    await client.succeed(
        "CreateCollection", db_name="library", collection_name="books", schema=books()
    )
    assert not (await client.succeed("HasCollection", collection_name="books")).value
    assert (await client.succeed("HasCollection", db_name="library", collection_name="books")).value
    _, reason = await client.refused("DropDatabase", db_name="library")
    assert "database:library not empty" in reason
    assert (await client.refused("DropDatabase", db_name="default"))[1] == (
        "can not drop default database"
    )
